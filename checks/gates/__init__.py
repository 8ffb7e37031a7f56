"""Gates, milestones, and estimates of the number of molecules that would decide a gate."""
