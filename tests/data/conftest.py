from hypothesis import settings

# A loaded machine may take long for one example; that is no failure.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")
