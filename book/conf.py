"""Sphinx's settings: the notebooks as they were recorded, never executed here."""

project = "Compress, then prompt"
html_title = "Compress, then prompt: a reproduction"
author = "the project's authors"
extensions = ["myst_nb"]
html_theme = "sphinx_book_theme"
html_theme_options = {
    "show_toc_level": 2,
    "home_page_in_toc": True,
    "use_download_button": False,
    "use_fullscreen_button": False,
    "navigation_with_keys": False,
}
html_css_files = ["book.css"]
html_js_files = ["sorted.js"]
html_static_path = ["_static"]
html_extra_path = ["../build/book/source/explorer"]
exclude_patterns = ["notebooks", "tests", "models", "ctp_lib", "README.md", "build", "benchmarks"]
nb_execution_mode = "off"
nb_merge_streams = True
nb_code_prompt_show = "Show the code"
nb_code_prompt_hide = "Hide the code"
nb_output_stderr = "remove"
myst_enable_extensions = ["colon_fence", "dollarmath", "html_image"]
myst_heading_anchors = 3
suppress_warnings = ["myst.header", "mystnb.unknown_mime_type", "myst.xref_missing", "toc.not_included"]
