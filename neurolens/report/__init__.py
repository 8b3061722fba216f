"""report: runs → one HTML file that opens from the disk and asks for nothing.

    choose.py    which neurons it shows      charts.py   the paper's figures as numbers
    gather.py    what it says of each        payload.py  arrays → text in a page
    passages.py  contexts, and their text    page.py     the file
    marks.py     what else they are active on
    assets/      the page itself: template, style, scripts
"""
