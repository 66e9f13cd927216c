"""What the encoder can learn before anybody teaches it findings.

```
masked.py     most of the scan is hidden; a small decoder fills it in             (needs scans)
contrast.py   scans and reports recognise each other among many                   (needs scans with reports)
model.py      Pretrainer: the report model plus those heads, for one training loop
transfer.py   weights of ViT and VideoMAE checkpoints, fitted into the encoder    (needs a file)
```
"""
