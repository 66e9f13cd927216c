"""Taking identifiers out: of DICOM files (`headers`), of NIfTI headers (`nifti`), of report texts (`text`)."""
