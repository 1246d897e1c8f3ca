// A click on a column's head sorts by it, another one turns it over. Without script the table stands as it is.
for (const head of document.querySelectorAll("table.sortable thead th")) {
  const button = document.createElement("button");
  button.append(...head.childNodes);
  head.append(button);
  button.addEventListener("click", () => {
    const up = head.getAttribute("aria-sort") !== "ascending";
    for (const other of head.parentNode.children) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", up ? "ascending" : "descending");
    const body = head.closest("table").tBodies[0];
    const key = (row) => row.cells[head.cellIndex].dataset.key ?? "";
    const order = (a, b) => {
      if (!key(a) || !key(b)) return !key(a) - !key(b); // what has no value stays last
      const [x, y] = [Number(key(a)), Number(key(b))];
      const difference = isNaN(x) || isNaN(y) ? key(a).localeCompare(key(b)) : x - y;
      return up ? difference : -difference;
    };
    body.append(...[...body.rows].sort(order));
  });
}
