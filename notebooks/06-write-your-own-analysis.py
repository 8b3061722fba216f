# %% [markdown]
# # 6 · Write your own analysis
#
# Tokens, positions and labels are all one thing to neurolens: a *variable*, a category for every token. Give it
# another one, and you have how often each neuron is active by category, and what the category says about it.
#
# Here: do neurons know how **long** a token is? Its length in characters, without the space before it.

# %%
import numpy as np

import neurolens as nl
from neurolens.counts import tabulate
from neurolens.information import measure_information

run = nl.open_demo("neurolens-demo/small.zarr")

# %% [markdown]
# ## Ten lines

# %%
corpus = run.store.corpus()
length = np.array([min(len(text.strip()), 8) for text in run.vocabulary.texts()])  # of each token id; 8 or more: 8
codes = length[corpus.tokens]
codes[corpus.tokens == corpus.eos] = -1  # </s> has none
variable = nl.Variable("length", codes.reshape(-1).astype(np.int32), 9)

layer = 1
rows = run.store.rows(layer, slice(0, run.store.neurons))  # the bits, in the order that they are stored in
counts = tabulate(rows, variable.in_order(run.store.read("order")))
rate = counts.rate()  # P(active | length): (neuron, category)
information = measure_information(counts.on, counts.total)  # nats, beside what chance gives

# %% [markdown]
# ## What they say
#
# Tokens of each length, from 0 characters (spaces and line ends) to 8 or more:

# %%
dict(enumerate(counts.total.tolist()))

# %% [markdown]
# The neurons of the layer that the length says most about: the share of tokens of each length on which they are
# active, and how much the length says, in nats.

# %%
import pandas as pd

most = np.argsort(-information.corrected)[:8]
table = pd.DataFrame(rate[most].round(3), index=pd.Index(most, name="neuron"))
table.assign(nats=information.corrected[most].round(3))

# %% [markdown]
# ## Is it right?
#
# The same, counted by hand from one neuron's bits:

# %%
neuron = int(most[0])
active = run.active(layer, neuron)
by_hand = [active[codes == category].mean() for category in range(variable.categories)]
np.testing.assert_allclose(by_hand, rate[neuron])

# %% [markdown]
# And with the lengths shuffled, so that they say nothing: the plug-in information, as the formula has it, is above 0
# all the same; corrected by the exact null it is around 0, and p is evenly spread.

# %%
shuffled = variable.codes.copy()
there = shuffled >= 0
shuffled[there] = np.random.default_rng(0).permutation(shuffled[there])
null = tabulate(rows, nl.Variable("shuffled", shuffled, 9).in_order(run.store.read("order")))
found = measure_information(null.on, null.total)
alive = null.on.sum(1) > 100
print(f"plug-in   {found.plug_in[alive].mean():.2e} nats, mean over {alive.sum()} neurons")
print(f"corrected {found.corrected[alive].mean():.2e} nats")
print(f"p < 0.05  {(found.p[alive] < 0.05).mean():.1%} of neurons")

# %% [markdown]
# ## What to mind
#
# - p takes tokens as independent. They are not: what stands in a sequence hangs together, and a neuron that knows the
#   token knows its length. Whether neurons know more of the length than that is the next question.
# - A token has one category, or −1 for none; those without are left out.
# - Counts add: `tabulate` block by block, or run by run, and `+`. Ready-made variables are in `neurolens.variables`:
#   `position`, `label`, `ngrams`, `group`.
