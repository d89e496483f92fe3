"""The same small ResFormer on 10 labelled images per class, and on all others without their labels.

    MINI_DATA_ROOT=path/to/data python tools/train.py configs/classification/resformer-mini_semi-10-labels_mr-64-48-32_1xb64-30e_mini.py

A batch has 16 labelled and 48 unlabelled images, so an epoch has 2000 / 48 = 41 steps of the 2,000 images. The average of
the weights moves by 1 % of a step at the end, and faster before: by 5 / (5 + steps). docs/few_labels.md says what is
learned from images without labels; measured accuracies: docs/experiments.md.
"""

_base_ = '_base_/mini.py'

model = dict(
    type='resformer_mm.SemiSupervisedClassifier',
    data_preprocessor=dict(type='resformer_mm.PartlyLabelledDataPreprocessor'),
    unlabelled=dict(type='PseudoLabelConsistency', temperature=0.5),
)
train_dataloader = dict(
    sampler=dict(
        _delete_=True,
        type='resformer_mm.PartlyLabelledSampler',
        batch_size=_base_.train_dataloader.batch_size,
        labelled=16,
    ),
    dataset=dict(type='resformer_mm.PartlyLabelledFolder', per_class=10),
)
custom_hooks = [
    dict(type='resformer_mm.TeacherHook', ema_type='MomentumAnnealingEMA', momentum=0.01, gamma=5),
]
