// A button pressed before the page's scripts have run would do nothing: it is pressed again then.
(() => {
  let pressed = null;
  const note = (event) => {
    const button = event.target.closest("button[hx-post], form[hx-post] button");
    if (!button) return;
    pressed = button;
    event.preventDefault();
  };
  addEventListener("click", note, true);
  // It reaches the window after the document, where htmx has taken the page over by now.
  addEventListener("DOMContentLoaded", () => {
    removeEventListener("click", note, true);
    pressed?.click();
  });
})();
