// A click on the head of a column sorts its table.
document.addEventListener("click", (event) => {
  const head = event.target.closest("th");
  const table = head && head.closest("table");
  if (!table || head.closest("tbody") || !table.tBodies.length) return;
  const body = table.tBodies[0], rows = [...body.rows];
  const fromEnd = head.parentElement.cells.length - head.cellIndex;
  const value = (row) => {
    const text = (row.cells[row.cells.length - fromEnd] || { textContent: "" }).textContent.trim();
    const number = parseFloat(text.replace(/[,+%]/g, ""));
    return isNaN(number) ? text : number;
  };
  const down = head.dataset.sorted !== "down";
  head.dataset.sorted = down ? "down" : "up";
  rows.sort((a, b) => {
    const [x, y] = [value(a), value(b)];
    const order = typeof x === typeof y ? (x < y ? -1 : x > y ? 1 : 0) : typeof x === "number" ? -1 : 1;
    return down ? order : -order;
  });
  body.append(...rows);
});
