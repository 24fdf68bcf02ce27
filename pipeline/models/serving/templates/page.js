"use strict";
const form = document.querySelector("form"), answer = document.querySelector("#answer");
function line(label, value) {
  const row = document.createElement("tr");
  const head = document.createElement("th"), cell = document.createElement("td");
  head.scope = "row";
  head.textContent = label;
  cell.textContent = value;
  row.append(head, cell);
  return row;
}
function show(body, ok) {
  answer.replaceChildren();
  answer.className = ok ? "good" : "bad";
  if (!ok) {
    answer.textContent = body.message;
    return;
  }
  const table = document.createElement("table");
  for (const [name, value] of Object.entries(body.predictions[0])) {
    const chance = name.startsWith("probability_");
    table.append(line(name, chance ? (100 * value).toFixed(1) + " %" : String(value)));
  }
  answer.append(table);
}
form.addEventListener("submit", async (event) => {
  event.preventDefault();
  const row = {};
  for (const field of form.querySelectorAll("[name]")) {
    row[field.name] = field.value === "" ? null : field.value;
  }
  try {
    const response = await fetch("invocations", {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ dataframe_records: [row] }),
    });
    show(await response.json(), response.ok);
  } catch (error) {
    show({ message: "The server does not answer." }, false);
  }
});
