// Shows /openapi.json: routes by tag, their parameters and schemas, and a form to try each. Uses nothing from elsewhere
// and writes text only as text.
"use strict";

const make = (name, text, ...children) => {
  const element = document.createElement(name);
  if (text) element.textContent = text;
  element.append(...children);
  return element;
};

const lookUp = (api, schema) => {
  if (schema && schema.$ref) {
    const name = schema.$ref.split("/").pop();
    return { name, schema: api.components.schemas[name] || {} };
  }
  return { name: "", schema: schema || {} };
};

// A short word for a schema.
const typeOf = (api, schema) => {
  const { name, schema: found } = lookUp(api, schema);
  if (name) return name;
  if (found.enum) return found.enum.map((v) => JSON.stringify(v)).join(" | ");
  const parts = found.oneOf || found.anyOf || found.allOf;
  if (parts) return parts.map((part) => typeOf(api, part)).join(" | ");
  if (found.items) return typeOf(api, found.items) + "[]";
  return [].concat(found.type || "any").join(" | ") + (found.format ? ` (${found.format})` : "");
};

const table = (head, rows) => {
  const body = rows.map((row) => make("tr", "", ...row.map((cell) => make("td", cell))));
  return make("table", "", make("thead", "", make("tr", "", ...head.map((h) => make("th", h)))), make("tbody", "", ...body));
};

// The fields of a schema and of the schemas that it names.
const fieldsOf = (api, schema, seen = new Set()) => {
  const { name, schema: found } = lookUp(api, schema);
  if (name && seen.has(name)) return [];
  if (name) seen.add(name);
  const shown = [];
  if (found.properties) {
    const needed = new Set(found.required || []);
    const rows = Object.entries(found.properties).map(([field, s]) => [
      field + (needed.has(field) ? " *" : ""), typeOf(api, s), s.description || "",
    ]);
    if (name) shown.push(make("h4", name));
    else if (found.description) shown.push(make("p", found.description));
    shown.push(table(["field", "type", "meaning"], rows));
  }
  const below = Object.values(found.properties || {}).concat(found.items || [], found.oneOf || [], found.anyOf || [], found.allOf || []);
  for (const next of below) shown.push(...fieldsOf(api, next.items || next, seen));
  return shown;
};

// A body to start from.
const example = (api, schema, depth = 0) => {
  const { schema: found } = lookUp(api, schema);
  if (found.example !== undefined) return found.example;
  if (found.enum) return found.enum[0];
  const parts = found.oneOf || found.anyOf || found.allOf;
  if (parts) return example(api, parts.find((p) => p.type !== "null") || parts[0], depth + 1);
  const type = [].concat(found.type || "object")[0];
  if (type === "string") return "";
  if (type === "boolean") return false;
  if (type === "array") return [];
  if (type !== "object") return 0;
  const value = {};
  for (const field of depth > 4 ? [] : found.required || []) value[field] = example(api, (found.properties || {})[field], depth + 1);
  return value;
};

const form = (api, method, path, operation) => {
  const box = make("div");
  const inputs = (operation.parameters || []).map((parameter) => {
    const input = make("input");
    box.append(make("label", `${parameter.name} (${parameter.in})`, input));
    return { parameter, input };
  });
  let body;
  const content = operation.requestBody && operation.requestBody.content["application/json"];
  if (content) {
    body = make("textarea");
    body.rows = 8;
    body.value = JSON.stringify(example(api, content.schema), null, 2);
    box.append(make("label", "body", body));
  }
  const button = make("button", "Try it");
  const answer = make("pre");
  answer.hidden = true;
  button.type = "button";
  button.onclick = async () => {
    let target = path;
    const query = new URLSearchParams();
    const headers = {};
    for (const { parameter, input } of inputs) {
      if (parameter.in === "path") {
        target = target.replace(`{${parameter.name}}`, input.value.split("/").map(encodeURIComponent).join("/"));
      } else if (input.value && parameter.in === "query") query.set(parameter.name, input.value);
      else if (input.value && parameter.in === "header") headers[parameter.name] = input.value;
    }
    const token = document.getElementById("token").value;
    if (token) headers.authorization = `Bearer ${token}`;
    if (body) headers["content-type"] = "application/json";
    answer.hidden = false;
    answer.textContent = "…";
    try {
      const url = target + (query.size ? `?${query}` : "");
      const response = await fetch(url, { method: method.toUpperCase(), headers, body: body && body.value });
      const kind = response.headers.get("content-type") || "";
      let text;
      if (kind.startsWith("text/event-stream")) {
        // The beginning of a stream is enough to see.
        const reader = response.body.getReader();
        text = new TextDecoder().decode((await reader.read()).value);
        await reader.cancel();
      } else text = await response.text();
      if (kind.includes("json") && text) text = JSON.stringify(JSON.parse(text), null, 2);
      answer.textContent = `${response.status} ${response.statusText}\n${kind}\n\n${text}`;
    } catch (error) {
      answer.textContent = String(error);
    }
  };
  box.append(button, answer);
  return box;
};

const route = (api, path, method, operation) => {
  const inside = make("div");
  for (const text of (operation.description || "").split("\n\n")) if (text) inside.append(make("p", text));
  if ((operation.parameters || []).length) {
    const rows = operation.parameters.map((p) => [p.name + (p.required ? " *" : ""), p.in, typeOf(api, p.schema), p.description || ""]);
    inside.append(make("h3", "Parameters"), table(["name", "in", "type", "meaning"], rows));
  }
  const content = operation.requestBody && operation.requestBody.content["application/json"];
  if (content) inside.append(make("h3", `Body: ${typeOf(api, content.schema)}`), ...fieldsOf(api, content.schema));
  inside.append(make("h3", "Answers"));
  const rows = Object.entries(operation.responses || {}).map(([status, response]) => {
    const first = Object.values(response.content || {})[0];
    return [status, first ? typeOf(api, first.schema) : "", response.description || ""];
  });
  inside.append(table(["status", "type", "meaning"], rows));
  for (const [status, response] of Object.entries(operation.responses || {})) {
    const first = Object.values(response.content || {})[0];
    if (status.startsWith("2") && first) inside.append(...fieldsOf(api, first.schema));
  }
  inside.append(make("h3", "Try it"), form(api, method, path, operation));
  const title = make("summary", "", make("span", method.toUpperCase()), make("code", path), make("span", ` ${operation.summary || ""}`));
  title.firstChild.className = "method";
  const box = make("details", "", title, inside);
  box.dataset.words = `${method} ${path} ${operation.summary || ""} ${operation.description || ""}`.toLowerCase();
  return box;
};

const show = (api) => {
  const main = document.getElementById("routes");
  main.textContent = "";
  document.getElementById("about").textContent = api.info.description || "";
  for (const tag of api.tags || []) {
    const section = make("section", "", make("h2", tag.name), make("p", tag.description));
    for (const [path, item] of Object.entries(api.paths)) {
      for (const method of ["get", "post", "put", "patch", "delete"]) {
        if (item[method] && (item[method].tags || []).includes(tag.name)) section.append(route(api, path, method, item[method]));
      }
    }
    main.append(section);
  }
  document.getElementById("find").oninput = (event) => {
    const words = event.target.value.toLowerCase().split(/\s+/).filter(Boolean);
    for (const box of main.querySelectorAll("details[data-words]")) box.hidden = !words.every((w) => box.dataset.words.includes(w));
  };
};

fetch("/openapi.json")
  .then((response) => response.json())
  .then(show)
  .catch((error) => { document.getElementById("routes").textContent = `The document cannot be read: ${error}`; });
