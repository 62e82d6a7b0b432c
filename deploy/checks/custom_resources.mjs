// Validates custom resources by the definitions their authors publish.
// node custom_resources.mjs VENV < [resources as a JSON array]; prints {index: fault} as JSON.
// A kind that is not in the table is a fault.
import { resolve } from "node:path";
import { pathToFileURL } from "node:url";

const KINDS = {
  "keda.sh/v1alpha1 ScaledObject": "@kubernetes-models/keda/keda.sh/v1alpha1",
  "keda.sh/v1alpha1 TriggerAuthentication": "@kubernetes-models/keda/keda.sh/v1alpha1",
  "monitoring.coreos.com/v1 ServiceMonitor": "@kubernetes-models/prometheus-operator/monitoring.coreos.com/v1",
  "monitoring.coreos.com/v1 PrometheusRule": "@kubernetes-models/prometheus-operator/monitoring.coreos.com/v1",
  "monitoring.coreos.com/v1alpha1 AlertmanagerConfig":
    "@kubernetes-models/prometheus-operator/monitoring.coreos.com/v1alpha1",
};

const packages = resolve(process.argv[2], "node_modules");
const chunks = [];
for await (const chunk of process.stdin) chunks.push(chunk);
const faults = {};
for (const [index, resource] of JSON.parse(Buffer.concat(chunks)).entries()) {
  const folder = KINDS[`${resource.apiVersion} ${resource.kind}`];
  try {
    if (!folder) throw new Error(`no definition of ${resource.apiVersion} ${resource.kind} is known`);
    const models = await import(pathToFileURL(resolve(packages, folder, "index.js")));
    new models[resource.kind](resource).validate();
  } catch (fault) {
    faults[index] = fault.message;
  }
}
console.log(JSON.stringify(faults));
