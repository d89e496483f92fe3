"""The same small ResFormer on 10 labelled images per class alone: what semi-supervised training is compared with.

    MINI_DATA_ROOT=path/to/data python tools/train.py configs/classification/resformer-mini_10-labels_mr-64-48-32_1xb64-30e_mini.py

The 100 images are repeated 20 times, so an epoch has about the 2,000 samples of one with all labels.
Measured accuracies: docs/experiments.md.
"""

_base_ = '_base_/mini.py'

few_labels = dict(_base_.train_dataloader.dataset, type='resformer_mm.FewLabelsFolder', per_class=10)
train_dataloader = dict(dataset=dict(_delete_=True, type='RepeatDataset', times=20, dataset=few_labels))
