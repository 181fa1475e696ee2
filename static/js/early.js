// A button pressed before the page's scripts have run would do nothing: it is pressed again then.
(() => {
  let pressed = null;
  const note = (event) => {
    pressed = event.target.closest("button[hx-post], form[hx-post] button") ?? pressed;
    if (pressed?.form) event.preventDefault();
  };
  addEventListener("click", note, true);
  // It reaches the window after the document, where htmx has taken the page over by now.
  addEventListener("DOMContentLoaded", () => {
    removeEventListener("click", note, true);
    pressed?.click();
  });
})();
