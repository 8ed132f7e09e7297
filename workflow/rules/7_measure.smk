"""
Measure: shape, size and colour of each cell inside its mask.

IN   results/2_crop/, 4_restore/ (the run's restoration)
OUT  results/7_measure/portions/{scatteritem}/, morphology.parquet (gathered)
"""


rule measure_cells:
    """Measure shape, size and colour of each cell inside its mask."""
    input:
        crops="results/2_crop/crops.parquet",
        cells=CELLS,
        crop_shards="results/2_crop/portions/{scatteritem}/shards",
        cell_shards=CELL_SHARDS,
    output:
        morphology="results/7_measure/portions/{scatteritem}/morphology.parquet",
    log:
        "results/7_measure/logs/measure_cells_{scatteritem}.log",
    benchmark:
        "results/7_measure/benchmarks/measure_cells_{scatteritem}.tsv"
    conda:
        "../../envs/core.yaml"
    threads: 16
    params:
        code=code_of("buffycoat.measure.measure_cells"),
        settings=settings_of("measure.measure_cells"),
    shell:
        "python -m buffycoat.measure.measure_cells"
        " --crops {input.crops:q} --cells {input.cells:q}"
        " --morphology {output.morphology:q} --portion {wildcards.scatteritem:q}"
        " --threads {threads} --settings {params.settings:q} 2>&1 | tee {log:q}"
