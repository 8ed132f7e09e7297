"""Where Snakemake looks in the repository's root; the table of contents is workflow/Snakefile."""


include: "workflow/Snakefile"


# A target of an included file is not the default by itself.
workflow.default_target = "all"
