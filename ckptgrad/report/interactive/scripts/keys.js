// By keyboard: in figures arrow keys move, + and - zoom, 0 shows all; Tab reaches the headings of tables, Enter sorts by one.
(() => {
  const STEP = 0.1
  const scaled = (range, factor, shift) => {
    const [middle, half] = [(range.start + range.end) / 2, (range.end - range.start) / 2]
    const moved = middle + shift * 2 * half
    const [least, most] = Array.isArray(range.bounds) ? range.bounds : [range.reset_start, range.reset_end]
    const size = Math.min(2 * half * factor, (most ?? Infinity) - (least ?? -Infinity))
    const start = Math.min(Math.max(moved - size / 2, least ?? -Infinity), (most ?? Infinity) - size)
    range.setv({start, end: start + size})
  }
  const plots_in = (element) => {
    const root = Bokeh.documents.flatMap((d) => d.roots()).find((model) => model.id == element.dataset.rootId)
    return root ? [...root.references()].filter((model) => model.type == "Figure") : []
  }
  // Tables draw their headings when they are first seen, each inside a shadow root.
  const headings_in = (root) => [
    ...root.querySelectorAll(".slick-header-column"),
    ...[...root.querySelectorAll("*")].flatMap((inner) => (inner.shadowRoot ? headings_in(inner.shadowRoot) : [])),
  ]
  // Before a table sees the key: Tab would go through all of its cells, which arrow keys do.
  const in_tables = (event) => {
    const innermost = event.composedPath()[0]
    if (event.key == "Tab") {
      for (const heading of headings_in(document)) heading.tabIndex = 0
      event.stopPropagation()
    } else if (innermost.classList?.contains("slick-header-column") && [" ", "Enter"].includes(event.key)) {
      innermost.click()
      event.stopPropagation()
      event.preventDefault()
    }
  }
  document.addEventListener("keydown", in_tables, true)
  document.addEventListener("keydown", (event) => {
    const element = event.target
    if (!element.classList?.contains("drawn")) return
    const moves = {
      ArrowLeft: ["x", 1, -STEP], ArrowRight: ["x", 1, STEP], ArrowDown: ["y", 1, -STEP], ArrowUp: ["y", 1, STEP],
      "+": ["x", 1 - 2 * STEP, 0], "=": ["x", 1 - 2 * STEP, 0], "-": ["x", 1 / (1 - 2 * STEP), 0],
    }
    const plots = plots_in(element)
    if (event.key == "0") {
      for (const plot of plots) plot.reset.emit()
    } else if (moves[event.key]) {
      const [axis, factor, shift] = moves[event.key]
      const ranges = new Set((axis == "x" ? plots : plots.slice(0, 1)).map((plot) => plot[`${axis}_range`]))
      for (const range of ranges) scaled(range, factor, shift)
    } else {
      return
    }
    event.preventDefault()
  })
})()
