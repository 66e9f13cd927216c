"""Report-like sentences written for the tests: the corpus on which our metrics and the references' are compared.

None comes from a patient's report. They are as awkward as real ones: sizes in every spelling, brackets, ranges,
slashes, percentages, abbreviations, quotation marks, list numbers, typographical errors.
"""

from __future__ import annotations

ENGLISH = (
    "There is a 12x9.3 mm nodule in the right upper lobe.",
    "A 12 x 9 mm solid nodule lies in the apical segment of the left lower lobe.",
    "Solid nodule, 8mm, right middle lobe; no calcification.",
    "A 5-mm ground-glass nodule is seen in the lingula (image 112/340).",
    "The largest node measures 1.4 x 0.9 cm (short axis 9 mm) in station 4R.",
    "Part-solid nodule of 14 mm with a 6-mm solid component.",
    "Nodules up to 4.5mm are scattered in both lungs.",
    "Mass in the left hilum, 3.5-4.0 cm, encasing the bronchus.",
    "No pleural effusion or pneumothorax is seen.",
    "No pericardial effusion.",
    "Small bilateral pleural effusions, right > left, with adjacent atelectasis.",
    "Pleural thickening (<3 mm) along the left costal surface.",
    "The patient's heart is enlarged; the cardiothoracic ratio is 0.58.",
    "Heart size is normal, and the pericardium isn't thickened.",
    "Calcified plaques are seen in the aorta -- mild.",
    "Coronary artery calcification: LAD, LCx and RCA (severe).",
    "The ascending aorta measures 42 mm; the main pulmonary artery measures 31 mm.",
    "Ascending aortic diameter = 4.2 cm.",
    "Emphysema is present in both upper lobes (approximately 20% of the lung).",
    "Centrilobular and paraseptal emphysema, upper-lobe predominant.",
    "Mosaic attenuation is noted, possibly due to small-airway disease.",
    "Peribronchial thickening and tubular bronchiectasis in the RLL & LLL.",
    "Tree-in-bud nodules in the right lower lobe suggest aspiration and/or infection.",
    "Patchy ground-glass opacities (up to 4.5 cm) are present in both lungs.",
    "Consolidation with air bronchograms occupies the left lower lobe.",
    "Findings could represent pneumonia vs. organising pneumonia.",
    "Interlobular septal thickening, e.g. from oedema, is seen at both bases.",
    "Crazy-paving pattern in the periphery of both lungs.",
    "Honeycombing with traction bronchiectasis: a UIP pattern is probable.",
    "Linear atelectasis / band-like fibrosis in the middle lobe.",
    "Lymph nodes at 4R, 4L and 7 don't exceed 10 mm.",
    "Mediastinal lymph nodes are not pathologically enlarged.",
    "Hiatal hernia (sliding type), about 3 cm.",
    "The trachea and both main bronchi are patent.",
    "Mucus plugging of the segmental bronchi of the right lower lobe (S9-S10).",
    "A port catheter ends at the cavoatrial junction.",
    "Sternal wires and a mitral-valve prosthesis are noted.",
    "Endotracheal tube: tip 3 cm above the carina.",
    "Nasogastric tube in situ, tip not included in the field-of-view.",
    "Old fractures of ribs 5-8 on the left.",
    "Compression fracture of T8, height loss 30 %.",
    "Degenerative changes at T4-T5 and T11/T12.",
    "No lytic or sclerotic bone lesion.",
    "Hypodense lesion in segment VII of the liver, 11 HU, compatible with a cyst.",
    "Left adrenal nodule: 15 mm, -5 HU, compatible with an adenoma.",
    "The gallbladder contains stones; the bile ducts are not dilated.",
    "Thyroid: hypodense nodule in the left lobe, 7 mm.",
    "Compared with 05/10/2023, the nodule has grown from 6 to 9 mm.",
    "Compared to the CT of 2022-11-03, the effusion has resolved.",
    "Previously seen consolidation is no longer visible.",
    "Findings are unchanged since the prior exam (2021).",
    "CT thorax without contrast; slice thickness 1.0 mm, 120 kV.",
    "PET/CT is recommended.",
    "Follow-up CT in 6-12 months according to Fleischner 2017.",
    "Follow up in 3 months.",
    "Lung-RADS 4A: repeat LDCT in 3 months.",
    "Malignancy cannot be excluded.",
    'The term "frosted glass" is used for ground-glass density.',
    "Impression: 1. Left pleural effusion. 2. Cardiomegaly.",
    "1) Nodule, 2) emphysema, 3) hiatal hernia",
    "FINDINGS: LUNGS: No nodule. PLEURA: No effusion. HEART: Normal.",
    "IMPRESSION:\n- Stable nodule.\n- No new lesion.",
    "Both lungs are clear.No pleural effusion.",
    "No evidence of pulmonary embolism on this non-contrast exam.",
    "It's a limited study because of respiratory motion.",
    "The left upper-lobe lesion's margins are spiculated.",
    "Volume of the effusion: approx. 250 ml.",
    "Attenuation of -650 HU in the solid-appearing part, +40 HU after contrast.",
    "Nodule in the RUL, series 4, image 57: 6.2 mm (previously 5.9 mm).",
    "The diameter is 10.5mm (mean), i.e. (12+9)/2.",
    "A cavity with a wall thickness of 4 mm ... no air-fluid level.",
    "Bronchial wall thickening (mild), bilaterally.",
    "S/P right upper lobectomy, surgical clips in the hilum.",
    "w/o contrast",
    "There are no enlarged axillary, hilar, or mediastinal lymph nodes.",
    "The oesophagus is not dilated!",
    "Is there a pneumothorax? No.",
    "Bilateral gynaecomastia.",
    "Reticulonodular densities at the lung bases [more on the right].",
    "Diaphragm elevation on the right, 4.0 cm.",
    "Multiple hypodense nodules in both thyroid lobes, the largest ~2 cm.",
    "Mean lung density: -812 HU; 15th percentile: -935 HU.",
    "Total Agatston score 1,250.",
    "The nodule's volume doubling time is 380 days.",
    "Azygos fissure (variant).",
    "Minimal effusion, max. depth 8 mm, on the left side",
    "density increases in both lower lobes,dependent atelectasis",
    "Nodule 3-4mm in the left lung, non-specific.",
    "Pulmonary trunk is 33mm ,suggesting pulmonary hypertension .",
    "No.",
)

CHINESE = (
    "右肺上叶见一枚实性结节,大小约12×9mm。",
    "左肺下叶背段见磨玻璃结节,长径约8.5毫米,边界清。",
    "双肺未见异常密度影。",
    "双肺见多发磨玻璃影,以下叶为著。",
    "左侧胸腔少量积液,右侧胸腔未见积液。",
    "左肺下叶见肿块,长径约3.5厘米,边缘毛刺。",
    "主动脉壁钙化,冠状动脉钙化。",
    "心影增大,心胸比约0.58。",
    "心脏大小、形态正常。",
    "纵隔内未见明显肿大淋巴结。",
    "气管及主要支气管通畅。",
    "双肺上叶小叶中心型肺气肿。",
    "双肺下叶支气管扩张伴管壁增厚。",
    "右肺中叶条索影,考虑纤维灶。",
    "胸膜增厚、粘连(左侧)。",
    "未见心包积液。",
    "肝右叶囊肿,约11HU。",
    "食管裂孔疝。",
    "右侧第5~8肋骨陈旧性骨折。",
    "较前片(2023-05-10)结节增大,由6mm增至9mm。",
    "建议3个月后复查CT。",
    "诊断意见:1.右肺上叶结节;2.肺气肿。",
    "PET/CT检查建议。",
    "双肺纹理增多、增粗。",
    "不除外感染性病变。",
)


def texts(language: str) -> list[tuple[str, str]]:
    """(candidate, reference) texts of the corpus: copies, omissions, swaps, other orders and strangers in turn."""
    sentences = ENGLISH if language == "en" else CHINESE
    n, gap = len(sentences), " " if language == "en" else ""

    def at(*places: int) -> str:
        return gap.join(sentences[place % n] for place in places)

    made = []
    for i in range(n):
        own = (i, 7 * i + 2, 11 * i + 5)
        others = (own, own[:1], (i + 1, *own[1:]), own[::-1], (i + n // 2, 7 * i + 3))
        made.append((at(*others[i % len(others)]), at(*own)))
    return made
