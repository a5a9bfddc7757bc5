"""What `make docs` adds to Markdown: formulas between dollar signs as MathML, and links of files outside docs/.

A formula is LaTeX, inline as `$γ(t)$` or as a block fenced by ```` ```math ````, as on GitHub. It becomes MathML when
the site is built, so that a reader needs neither a script nor a network. A formula that cannot be converted stops the build.
"""

import re

from markdown import Extension
from markdown.inlinepatterns import InlineProcessor
from markdown.preprocessors import Preprocessor
from math_core import LatexToMathML

INLINE = r"(?<![\\$\w])\$(?![\s$])((?:\\.|[^\\$\n])+?)(?<!\s)\$(?![\w$])"
"""A formula within a line: nothing but dollar signs that enclose text without spaces at its ends."""

SUPERSCRIPTS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻", "0123456789-")


def mathml(latex: str, *, block: bool = False) -> str:
    """A formula as MathML. Minus signs and superscripts may be Unicode's; raises `LatexError` where it is not LaTeX."""
    latex = re.sub("[⁰¹²³⁴⁵⁶⁷⁸⁹⁻]+", lambda match: "^{" + match[0].translate(SUPERSCRIPTS) + "}", latex)
    return LatexToMathML().convert_with_local_state(latex.replace("−", "-"), displaystyle=block)


def math_block(source, language, css_class, options, md, **kwargs) -> str:
    """A fenced block `math`, in a frame that scrolls where it is wider than the screen; the form that superfences asks for."""
    return f'<div class="formula" tabindex="0" role="group" aria-label="Formula">{mathml(source.strip(), block=True)}</div>'


class InlineMath(InlineProcessor):
    """Formulas between single dollar signs."""

    def handleMatch(self, m, data):
        """The formula, kept aside as it is, and where it stands."""
        return self.md.htmlStash.store(mathml(m[1])), m.start(0), m.end(0)


class Links(Preprocessor):
    """Links as they are right from the repository's root, in files that are included in a page of docs/."""

    def run(self, lines):
        """The lines with links relative to docs/."""
        return [re.sub(r"\]\((?:\.\./)?docs/", "](", line) for line in lines]


class Docs(Extension):
    """Both, for Python-Markdown."""

    def extendMarkdown(self, md):
        """Registers both: links after files are included, formulas before escapes and emphasis."""
        md.inlinePatterns.register(InlineMath(INLINE, md), "math", 185)
        md.preprocessors.register(Links(md), "links", 26)


def makeExtension(**settings):
    """The extension, under the name that Python-Markdown looks for."""
    return Docs(**settings)
