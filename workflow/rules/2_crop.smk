"""
Crop: the primary white cell of each image.

IN   results/1_index/images.parquet and the image files it names
OUT  results/2_crop/crops.parquet, shards/
"""


rule crop_cells:
    """Find the primary white cell of each image and cut it out, with its mask."""
    input:
        images="results/1_index/images.parquet",
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
        gpu=CROP_GPU,
    params:
        code=code_of("buffycoat.crop.crop_cells"),
        settings=settings_of("crop.crop_cells"),
    shell:
        "python -m buffycoat.crop.crop_cells"
        " --images {input.images:q} --crops {output.crops:q} --shards {output.shards:q}"
        " --threads {threads} --settings {params.settings:q} 2>&1 | tee {log:q}"
