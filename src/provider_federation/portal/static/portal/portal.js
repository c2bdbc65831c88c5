// Small helpers of the portal's pages. Data arrives in attributes; nothing here is inline.
(() => {
  "use strict";

  // "Choose all" in a table, and the button that says how many are chosen.
  const update = (form) => {
    const boxes = [...form.querySelectorAll("input[data-choose]")];
    const chosen = boxes.filter((box) => box.checked).length;
    for (const counter of form.querySelectorAll("[data-chosen]")) counter.textContent = String(chosen);
    for (const button of form.querySelectorAll("[data-needs-choice]")) button.disabled = chosen === 0;
    const all = form.querySelector("input[data-choose-all]");
    if (all) {
      all.checked = chosen > 0 && chosen === boxes.length;
      all.indeterminate = chosen > 0 && chosen < boxes.length;
    }
  };

  document.addEventListener("change", (event) => {
    const box = event.target;
    const form = box.form;
    if (!form) return;
    if (box.matches("input[data-choose-all]")) {
      for (const one of form.querySelectorAll("input[data-choose]")) one.checked = box.checked;
    }
    if (form.querySelector("input[data-choose]")) update(form);
    if (box.matches("[data-submits]")) form.requestSubmit();
  });

  // A form that was sent once is not sent again by a second click.
  document.addEventListener("submit", (event) => {
    const form = event.target;
    if (form.method !== "post" || event.defaultPrevented) return;
    if (form.dataset.sent) {
      event.preventDefault();
      return;
    }
    form.dataset.sent = "1";
  });
  window.addEventListener("pageshow", () => {
    for (const form of document.querySelectorAll("form[data-sent]")) delete form.dataset.sent;
  });

  // First and last day are asked for only when they count.
  const fitWindow = (row) => {
    const custom = row.querySelector("select").value === "custom";
    for (const field of row.querySelectorAll("[data-custom]")) field.hidden = !custom;
  };
  document.addEventListener("change", (event) => {
    const row = event.target.closest("[data-window]");
    if (row) fitWindow(row);
  });

  document.addEventListener("DOMContentLoaded", () => {
    for (const row of document.querySelectorAll("[data-window]")) fitWindow(row);
    for (const form of document.querySelectorAll("form")) {
      if (form.querySelector("input[data-choose]")) update(form);
    }
  });
})();
