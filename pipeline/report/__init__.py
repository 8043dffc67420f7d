"""report.html: one self-contained page about a run, with examples of its predictions.

report.py      collects what the page shows and writes it
facts.py       what ran, from run.json and the status
speed.py       how fast each stage was and what limits the run, from receipts
sample.py      parts spread evenly over the run, so that the report of any run reads about as much
sections/      one file per kind of prediction: labels, masks, flow, clips, embeddings; known labels, near
               duplicates and quarantine
marker.py      tells a report from another file, and an up-to-date one from an earlier one
page.py        the page: templates/, with values escaped and a policy that allows nothing from outside
"""
