"""What every page of ours has to be: usable by name, and readable in its colours."""


def check_names(page, used):
    """Check that everything that a person uses has a name, and that all these roles are there."""
    found = set()
    for node in page.browser.call("Accessibility.getFullAXTree")["nodes"]:
        role = node.get("role", {}).get("value", "").casefold()
        if role in used and not node.get("ignored"):
            assert node["name"]["value"].strip(), node
            found.add(role)
    assert found == used


def check_contrast(page, pairs, *, dark):
    """Check texts on their grounds against WCAG 2.2, level AA: pairs of names of colours."""

    def luminance(name):
        code = f"getComputedStyle(document.documentElement).getPropertyValue('--{name}').trim()"
        color = page.run(code)
        parts = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    assert (luminance("paper") < 0.1) == dark
    usual = [(text, on) for text in ("ink", "quiet", "accent", "bad") for on in ("paper", "sheet")]
    for text, ground in [*usual, *pairs]:
        one, other = sorted((luminance(text), luminance(ground)))
        contrast = (other + 0.05) / (one + 0.05)
        assert contrast >= 4.5, f"{text} on {ground}: {contrast:.1f}"
