"""Display: what objects look like in a notebook, as HTML that loads nothing and in which no text becomes markup.

html.py builds elements, look.py has their style and the pieces that views are made of, the other modules the views: of
tables, contexts, a neuron's card, a run. They take the objects as they are and import none of them: the objects' own
`_repr_html_` imports these when it is called. matplotlib, pandas and jinja2 are not needed.
"""
