"""Data transforms, adapters to mmcv and mmpretrain; each module is imported when it is asked for."""
