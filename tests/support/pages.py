"""A page as a test looks at it: its elements, texts and addresses."""

from html.parser import HTMLParser
from urllib.parse import unquote

VOID = {"meta", "link", "img", "input", "br", "hr", "rect", "line", "circle"}


class Parsed(HTMLParser):
    """The elements of a page.

    Attributes
    ----------
    elements : list of (str, dict)
        Each start tag with its attributes, in order.
    text : str
        All texts, but for style and script.
    """

    def __init__(self, content):
        super().__init__()
        self.elements, self._texts, self._open = [], [], []
        self.feed(content)
        self.text = " ".join(" ".join(self._texts).split())

    def handle_starttag(self, tag, attrs):
        assert len(dict(attrs)) == len(attrs), f"an attribute twice: {tag} {attrs}"
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self._open, f"</{tag}> without a beginning"
            opened = self._open.pop()
            while opened in {"li", "p", "option", "tr", "td", "th", "dd", "dt"} and opened != tag:
                opened = self._open.pop()
            assert opened == tag, f"<{opened}> is closed by </{tag}>"

    def handle_data(self, data):
        if not self._open or self._open[-1] not in {"style", "script"}:
            self._texts.append(data)

    def all(self, tag, **wanted):
        """Return the attributes of all elements of a kind, which have these values."""
        return [
            found
            for name, found in self.elements
            if name == tag and all(found.get(k.rstrip("_")) == v for k, v in wanted.items())
        ]

    def of_class(self, name):
        """Return the attributes of all elements of a class."""
        return [found for _, found in self.elements if name in (found.get("class") or "").split()]

    @property
    def files(self):
        """Addresses of links that lead out of the page."""
        found = [each["href"] for each in self.all("a") if "href" in each]
        return [unquote(href) for href in found if not href.startswith("#")]

    @property
    def addresses(self):
        """Everything that a browser could load."""
        keys = ("src", "srcset", "data", "poster", "action", "formaction", "background")
        found = [attrs[key] for _, attrs in self.elements for key in keys if key in attrs]
        return found + [each["href"] for each in self.all("link") + self.all("image")]
