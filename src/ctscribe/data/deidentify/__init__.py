"""Taking identifiers out: of DICOM files (`headers`), of NIfTI headers (`nifti`), of report texts (`text`); `copy` does
all of it for a folder or a manifest."""
