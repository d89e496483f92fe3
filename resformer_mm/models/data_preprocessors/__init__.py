"""Data preprocessors, adapters to mmpretrain and mmsegmentation; each is imported when it is asked for."""
