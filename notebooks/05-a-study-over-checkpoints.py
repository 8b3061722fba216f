# %% [markdown]
# # 5 · A study over checkpoints
#
# "With training, neurons fall silent" is said of a set of runs. A study is one: a file says which models read which
# text and what they differ in, and all runs are compared in the end. Here: the embedded model after 250, 500 and 750
# steps of its training.

# %%
from pathlib import Path

from neurolens.demo import MODEL
from neurolens.jobs import read_job
from neurolens.study import run_study

study = Path("neurolens-study")
study.mkdir(exist_ok=True)
job = study / "checkpoints.toml"
job.write_text(f"""
[defaults]
data = "demo:"
tokens = 16_384
analyze = {{ only = ["dead", "ngrams", "positions"] }}

[[run]]
model = "../../checkpoints/step250"
step = 250

[[run]]
model = "../../checkpoints/step500"
step = 500

[[run]]
model = "{MODEL.as_posix()}"
name = "step750"
step = 750
""")

outcome = run_study(read_job(job), study)  # what is done already is left alone
print(*outcome.lines(), sep="\n")

# %% [markdown]
# Add `checkpoints/step0`, the untrained model, and run this again: what is there is left alone, and the new one
# joins. (Half of its neurons are active on any token, and nearly all depend on the position: random weights do.)
#
# `neurolens study JOB.toml` does the same; on a cluster, too. [studies/opt-family.toml](../studies/opt-family.toml)
# is the paper's own study, OPT-125m to 66b.
#
# ## Over the steps
#
# Shares of neurons by step, but for `frequency`, a share of tokens. The intervals are over groups of sequences.

# %%
import pandas as pd

comparison = study / "comparison"
trends = pd.read_csv(comparison / "trends.csv").set_index("value")
trends[["dead", "dead_low", "dead_high", "frequency", "detectors", "supported", "positional"]].round(4)

# %% [markdown]
# The same as a figure. More and more neurons fall silent, and the others become sparse; token detectors come, and
# some go; positional neurons appear late.

# %%
from IPython.display import Image

Image(comparison / "figures" / "trends.png", width=720)

# %% [markdown]
# ## Neuron by neuron
#
# Runs of one model can be compared neuron by neuron: how many of each class before (rows) are of which class after
# (columns).

# %%
Image(comparison / "figures" / "transitions.png", width=720)

# %% [markdown]
# In numbers: is a dead neuron dead for good? Of those that are dead at one step, the share that still is at the next.

# %%
import neurolens as nl

states = {step: nl.open(study / f"step{step}.zarr") for step in (250, 500, 750)}
dead = {step: run.neurons["dead"] for step, run in states.items()}
for before, after in ((250, 500), (500, 750)):
    known, still = dead[before].sum(), (dead[before] & dead[after]).sum()
    print(f"{known:,} neurons are dead at step {before}; of these {still / known:.0%} are at step {after}")

# %% [markdown]
# Any figure takes several runs. Dead neurons by layer, at three steps:

# %%
states[250].plot.dead(states[500], states[750])

# %% [markdown]
# All figures, tables and a page that says what they show are in `neurolens-study/comparison/`:

# %%
sorted(path.name for path in comparison.iterdir())
