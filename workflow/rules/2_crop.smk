"""
Crop: the primary white cell of each image.

IN   results/1_index/images.parquet and the image files it names; masks of your own, where the configuration names some
OUT  results/2_crop/portions/{scatteritem}/, crops.parquet (gathered), segmenter.safetensors, segmenter_history.parquet
"""


rule train_segmenter:
    """Fine-tune the embedded segmenter on the masks that crop.train_segmenter.masks names; resumes."""
    input:
        masks=MASK_SETS,
    output:
        segmenter="results/2_crop/segmenter.safetensors",
        history="results/2_crop/segmenter_history.parquet",
    log:
        "results/2_crop/logs/train_segmenter.log",
    benchmark:
        "results/2_crop/benchmarks/train_segmenter.tsv"
    conda:
        "../../envs/cellpose.yaml"
    threads: 8
    resources:
        gpu=1,
    params:
        code=code_of("buffycoat.crop.train_segmenter"),
        settings=settings_of("crop.train_segmenter"),
        seed=SEED,
    shell:
        "python -m buffycoat.crop.train_segmenter"
        " --masks {input.masks:q} --segmenter {output.segmenter:q} --history {output.history:q}"
        " --seed {params.seed} --settings {params.settings:q} 2>&1 | tee {log:q}"


rule crop_cells:
    """Find the primary white cell of each image and cut it out, with its mask."""
    input:
        images="results/1_index/images.parquet",
        segmenter=SEGMENTER,
    output:
        crops="results/2_crop/portions/{scatteritem}/crops.parquet",
        shards=directory("results/2_crop/portions/{scatteritem}/shards"),
    log:
        "results/2_crop/logs/crop_cells_{scatteritem}.log",
    benchmark:
        "results/2_crop/benchmarks/crop_cells_{scatteritem}.tsv"
    conda:
        "../../envs/cellpose.yaml"
    threads: 16
    resources:
        gpu=CROP_GPU,
    params:
        code=code_of("buffycoat.crop.crop_cells"),
        settings=settings_of("crop.crop_cells"),
    shell:
        "python -m buffycoat.crop.crop_cells"
        " --images {input.images:q} --segmenter {input.segmenter:q}"
        " --crops {output.crops:q} --shards {output.shards:q} --portion {wildcards.scatteritem:q}"
        " --threads {threads} --settings {params.settings:q} 2>&1 | tee {log:q}"
