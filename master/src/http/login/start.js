// Exchanges the code in the address, which no server sees, for a session.
const code = location.hash.slice(1);
const tell = (text) => { document.getElementById("state").textContent = text; };
if (code) {
  history.replaceState(null, "", location.pathname);
  tell("Logging in …");
  fetch("/v1/sessions", {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ code }),
  }).then((answer) => {
    if (answer.ok) {
      // Other ports of this address are not shown what is kept here, as they would be a cookie.
      return answer.json().then(({ session }) => {
        sessionStorage.setItem("shef-session", session);
        location.replace("/docs");
      });
    } else {
      tell("This link was used, or has expired. Another one: shef login --web");
    }
  }, () => tell("The master does not answer. Try the link again."));
}
