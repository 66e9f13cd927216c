(function () {
  "use strict";
  var root = document.documentElement;
  var viewer = document.getElementById("viewer");
  var all = function (query) { return Array.prototype.slice.call(document.querySelectorAll(query)); };

  function show(id) {
    all(".place").forEach(function (place) { place.hidden = place.id !== id; });
    all("#tabs button").forEach(function (tab) {
      tab.setAttribute("aria-selected", String(tab.dataset.place === id));
    });
  }

  function choose(element) {
    var places = element.dataset.places.split(" ");
    all(".chosen").forEach(function (other) { other.classList.remove("chosen"); });
    element.classList.add("chosen");
    all("#tabs button").forEach(function (tab) {
      var id = tab.dataset.place;
      tab.hidden = id.indexOf("overview") !== 0 && places.indexOf(id) < 0;
    });
    show(places[0]);
    if (window.innerWidth < 980) { viewer.scrollIntoView({ behavior: "smooth" }); }
  }

  all("[data-places]").forEach(function (element) {
    element.addEventListener("click", function () { choose(element); });
    element.addEventListener("keydown", function (event) {
      if (event.key === "Enter" || event.key === " ") { event.preventDefault(); choose(element); }
    });
  });
  all("#tabs button").forEach(function (tab) {
    tab.addEventListener("click", function () { show(tab.dataset.place); });
  });
  all("[data-layer]").forEach(function (box) {
    box.addEventListener("change", function () { viewer.classList.toggle("no-" + box.dataset.layer, !box.checked); });
  });
  all("[data-set-lang]").forEach(function (button) {
    button.addEventListener("click", function () {
      var sentences = function () { return all('.text[lang="' + root.dataset.lang + '"] button.sentence'); };
      var index = sentences().indexOf(document.querySelector(".text button.chosen"));
      root.dataset.lang = root.lang = button.dataset.setLang;
      var twin = sentences()[index];
      if (twin) { choose(twin); }
    });
  });
  document.getElementById("theme").addEventListener("click", function () {
    var dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
    root.dataset.theme = dark ? "light" : "dark";
  });

  var first = document.querySelector(".text button.sentence");
  if (first) { choose(first); } else { show("overview-lung"); }
})();
