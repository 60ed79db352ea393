"""An HTML page as its tags and its text."""

from html.parser import HTMLParser

VOID = {"meta", "img", "br", "wbr", "input"}


class Page(HTMLParser):
    """The page's tags with their attributes, and its text without style and script."""

    def __init__(self, html):
        super().__init__()
        self.tags, self.words, self.open = [], [], []
        self.feed(html)
        self.text = " ".join("".join(self.words).split())

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag
        if tag in {"th", "td", "dt", "dd", "h2", "h3", "p", "li", "option", "caption"}:
            self.words.append(" ")

    def handle_data(self, data):
        if not {"style", "script"} & set(self.open):
            self.words.append(data)

    def all(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]
