{{- define "meshsigner.name" -}}
{{- if contains "meshsigner" .Release.Name }}{{ .Release.Name | trunc 52 | trimSuffix "-" }}{{ else }}{{ printf "%s-meshsigner" .Release.Name | trunc 52 | trimSuffix "-" }}{{ end -}}
{{- end }}

{{- define "meshsigner.account" -}}
{{ default (include "meshsigner.name" .) .Values.serviceAccount.name }}
{{- end }}

{{- define "meshsigner.selector" -}}
app.kubernetes.io/name: meshsigner
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "meshsigner.labels" -}}
{{ include "meshsigner.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}

{{- define "meshsigner.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ default .Chart.AppVersion .Values.image.tag }}
{{- end -}}
{{- end }}

{{/* More than one pod may be there. */}}
{{- define "meshsigner.several" -}}
{{- if or .Values.autoscaling.enabled (gt (int .Values.replicas) 1) }}yes{{ end -}}
{{- end }}

{{/* Refuse what would run and go wrong. */}}
{{- define "meshsigner.check" -}}
{{- if and (include "meshsigner.several" .) (eq .Values.inventory.type "sqlite") }}
{{- fail "replicas or autoscaling: several pods cannot share an inventory in SQLite; set inventory.type to postgres, or replicas to 1 and autoscaling.enabled to false" }}
{{- end }}
{{- $issuer := (.Values.config.issuer | default dict).type | default "" }}
{{- if and (include "meshsigner.several" .) (eq $issuer "self_made") }}
{{- fail "config.issuer: a self_made CA is each pod's own; with several pods name a CA that all share: issuer.secret, or backends" }}
{{- end }}
{{- range $name, $backend := .Values.backends }}
{{- if and (include "meshsigner.several" $) (eq ($backend.type | default "") "self_made") }}
{{- fail (printf "backends.%s: a self_made CA is each pod's own; with several pods name a CA that all share" $name) }}
{{- end }}
{{- end }}
{{- if and (eq .Values.issuer.type "backends") (not .Values.backends) }}
{{- fail "issuer.type is backends, and backends is empty: name at least one, as docs/config.md has them" }}
{{- end }}
{{- if and (eq .Values.inventory.type "postgres") (not .Values.inventory.postgres.url) }}
{{- fail "inventory.postgres.url: expected postgresql://USER@HOST/DATABASE" }}
{{- end }}
{{- if and (eq .Values.tokens.type "jwks") (not .Values.tokens.issuer) }}
{{- fail "tokens.issuer: with tokens.type jwks name the iss of the cluster's tokens (kube-apiserver's --service-account-issuer)" }}
{{- end }}
{{- if and .Values.remoteClusters.enabled (not .Values.remoteClusters.allowed) }}
{{- fail "remoteClusters.allowed: name which clusters there may be, with the trust domain and namespaces of each" }}
{{- end }}
{{- end }}

{{/* meshsigner.yaml, from the values; config is merged over it. */}}
{{- define "meshsigner.config" -}}
{{- $names := list (printf "%s.%s.svc" (include "meshsigner.name" .) .Release.Namespace) }}
{{- $names = concat $names .Values.serving.dnsNames | uniq }}
{{- $authenticator := dict "type" .Values.tokens.type }}
{{- if .Values.tokens.issuer }}{{ $_ := set $authenticator "issuer" .Values.tokens.issuer }}{{ end }}
{{- if eq .Values.tokens.type "jwks" }}{{ $_ := set $authenticator "in_cluster" true }}{{ end }}
{{- $cluster := dict "id" .Values.clusterId "local" true "authenticators" (list $authenticator) }}
{{- if .Values.ambient.enabled }}
{{- $_ := set $cluster "node_authorization" (dict "accounts" .Values.ambient.accounts) }}
{{- end }}
{{- $made := dict "trust_domain" .Values.trustDomain "clusters" (list $cluster) }}
{{- if eq .Values.issuer.type "secret" }}
{{- $_ := set $made "issuer" (dict "type" "directory" "path" "/etc/meshsigner/ca") }}
{{- else }}
{{- $_ := set $made "backends" .Values.backends }}
{{- end }}
{{- if .Values.serving.secret }}
{{- $_ := set $made "listen" (dict "tls" (dict "type" "files" "certificate" "/etc/meshsigner/serving/tls.crt" "key" "/etc/meshsigner/serving/tls.key")) }}
{{- else }}
{{- $_ := set $made "listen" (dict "tls" (dict "type" "issuer" "dns_names" $names "directory" "/run/meshsigner/serving")) }}
{{- end }}
{{- if eq .Values.inventory.type "sqlite" }}
{{- $_ := set $made "inventory" (dict "type" "sqlite" "path" "/var/lib/meshsigner/inventory/inventory.db") }}
{{- else }}
{{- $postgres := dict "type" "postgres" "url" .Values.inventory.postgres.url "sslmode" .Values.inventory.postgres.sslmode }}
{{- if .Values.inventory.postgres.secret }}{{ $_ := set $postgres "password_file" "/etc/meshsigner/postgres/password" }}{{ end }}
{{- if .Values.inventory.postgres.caFromSecret }}{{ $_ := set $postgres "ca_file" "/etc/meshsigner/postgres/ca.crt" }}{{ end }}
{{- $_ := set $made "inventory" $postgres }}
{{- end }}
{{- if .Values.controllers.enabled }}
{{- $_ := set $made "controllers" (dict "enabled" true "lease" (dict "namespace" .Release.Namespace "name" (include "meshsigner.name" .)) "trust_bundle" .Values.controllers.trustBundle "longest_leaf" .Values.controllers.longestLeaf "istiod" .Values.controllers.istiod) }}
{{- end }}
{{- if .Values.remoteClusters.enabled }}
{{- $_ := set $made "remote_clusters" (dict "namespace" .Values.remoteClusters.namespace "allowed" .Values.remoteClusters.allowed) }}
{{- end }}
{{- if .Values.front.enabled }}
{{- $_ := set $made "client_certificates" (dict "forwarded" (dict "type" "unix" "socket" "/run/meshsigner/front/xfcc.sock")) }}
{{- end }}
{{- if or .Values.workers .Values.front.enabled }}{{ $_ := set $made "workers" (int (default 1 .Values.workers)) }}{{ end }}
{{- if .Values.signers }}{{ $_ := set $made "policy" (dict "signers" .Values.signers) }}{{ end }}
{{- $_ := set $made "logging" (dict "level" .Values.logLevel) }}
{{- mergeOverwrite $made (deepCopy .Values.config) | toYaml }}
{{- end }}

{{/* Namespaces of istiod, each once. */}}
{{- define "meshsigner.istiodNamespaces" -}}
{{- $found := dict }}
{{- range .Values.controllers.istiod }}{{ $_ := set $found (default "istio-system" .namespace) true }}{{ end }}
{{- $found | toYaml }}
{{- end }}
