"""A catalog of a tiny table, and runs that are watched."""

from dataclasses import replace

from train.tables.plan import SCALES

TINY = replace(
    SCALES["tiny"], samples=12, width=2, pretrain_steps=4, adapt_steps=2, finetune_steps=2, checkpoint_every=2,
    validation_samples=2, folds=(0,),
)  # fmt: skip

DATASET = """
  NAME:
    role: ROLE
    region: brain-flair
    modality: FLAIR
    licence: CC0
    terms: none
    redistribute_derived: true
    citation: nobody
    obtain: made here
    root: {path: FOLDER/ROLE}
    layout: {image: "{case}_flair.nii.gz", roi: "{case}_brain.nii.gz", MARKED: "{case}_seg.nii.gz"}
"""
CATALOG = f"""
regions:
  brain-flair: {{modality: FLAIR, synthesis: {{shape: {{volume_mm3: [600, 6000]}}}}}}
  liver-ct: {{modality: CT}}
datasets:
{DATASET.replace("NAME", "heads").replace("ROLE", "normal").replace("MARKED", "lesion")}
{DATASET.replace("NAME", "gliomas").replace("ROLE", "tumour").replace("MARKED", "label")}
  BraTS2018-4:
    role: tumour
    region: brain-flair
    modality: [FLAIR, T2]
    licence: CC0
    terms: none
    redistribute_derived: true
    citation: nobody
    obtain: made here
    root: {{path: FOLDER/brats}}
    layout:
      image: {{FLAIR: "*/{{case}}/{{case}}_flair.nii.gz", T2: "*/{{case}}/{{case}}_t2.nii.gz"}}
      label: "*/{{case}}/{{case}}_seg.nii.gz"
tasks:
  BTS:
    dataset: BraTS2018-4
    modalities: [FLAIR, T2]
    classes: {{whole tumour: [1, 2, 4], tumour core: [1, 4], enhancing tumour: [4]}}
    folds: {{share: 0.5}}
    patient: "{{patient}}_*"
"""


class Watched:
    """Keeps what was begun; may be told to stop a training at a step."""

    def __init__(self, stop_at=None):
        self.names, self.problems, self.stop_at = [], [], stop_at

    def begun(self, step):
        self.names.append(step.kind)

    def trained(self, step, shown):
        if step == self.stop_at:
            raise KeyboardInterrupt

    def ended(self, step, seconds, problem):
        self.problems += [problem] if problem else []
