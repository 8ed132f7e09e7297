"""
Crop: the primary white cell of each image.

IN   results/1_index/images.parquet and the image files it names; masks of your own, where the configuration names some
OUT  results/2_crop/crops.parquet, shards/, segmenter.safetensors, segmenter_history.parquet; portions/ while they are
     gathered
"""


rule train_segmenter:
    """Fine-tune a segmenter on the masks that crop.train_segmenter.masks names; the embedded one resumes."""
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
    """Find the primary white cell of each image and cut it out, with its mask; or gather what the portions' jobs cut."""
    input:
        images="results/1_index/images.parquet",
        segmenter=SEGMENTER,
        portions=portions_of("results/2_crop/portions/{portion}/crops.parquet"),
        portion_shards=portions_of("results/2_crop/portions/{portion}/shards"),
    output:
        crops="results/2_crop/crops.parquet",
        shards=directory("results/2_crop/shards"),
    log:
        "results/2_crop/logs/crop_cells.log",
    benchmark:
        "results/2_crop/benchmarks/crop_cells.tsv"
    conda:
        "../../envs/cellpose.yaml"
    threads: 16
    resources:
        gpu=CROP_GPU * WHOLE,
    params:
        code=code_of("buffycoat.crop.crop_cells"),
        settings=settings_of("crop.crop_cells"),
        portion="1/1",
    shell:
        "python -m buffycoat.crop.crop_cells"
        " --images {input.images:q} --segmenter {input.segmenter:q} --portions {input.portions:q}"
        " --crops {output.crops:q} --shards {output.shards:q} --portion {params.portion:q}"
        " --threads {threads} --settings {params.settings:q} 2>&1 | tee {log:q}"


use rule crop_cells as crop_cells_portion with:
    input:
        images="results/1_index/images.parquet",
        segmenter=SEGMENTER,
        portions=[],
    output:
        crops=temp("results/2_crop/portions/{portion}/crops.parquet"),
        shards=temp(directory("results/2_crop/portions/{portion}/shards")),
    log:
        "results/2_crop/logs/portions/crop_cells_{portion}.log",
    benchmark:
        "results/2_crop/benchmarks/portions/crop_cells_{portion}.tsv"
    resources:
        gpu=CROP_GPU,
    params:
        code=code_of("buffycoat.crop.crop_cells"),
        settings=settings_of("crop.crop_cells"),
        portion=PORTION,
