"use strict";
// The document of this master; no validator and nothing else from another place is asked.
const session = sessionStorage.getItem("shef-session");
const isOwn = (request) => new URL(request.url, location.href).origin === location.origin;
window.ui = SwaggerUIBundle({
  url: "openapi.json",
  // A token that somebody has entered on the page goes first.
  requestInterceptor: (request) => {
    if (session && isOwn(request) && !request.headers.Authorization) {
      request.headers.Authorization = `Session ${session}`;
    }
    return request;
  },
  responseInterceptor: (answer) => {
    if (answer.status === 401 && answer.url.endsWith("/openapi.json")) location.replace("/login");
    return answer;
  },
  // The session is not shown in commands to copy.
  showMutatedRequest: false,
  dom_id: "#api",
  deepLinking: true,
  displayRequestDuration: true,
  docExpansion: "list",
  defaultModelsExpandDepth: 0,
  filter: true,
  validatorUrl: null,
});
