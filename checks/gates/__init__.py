"""Gates, milestones, and how many molecules would decide a gate."""
