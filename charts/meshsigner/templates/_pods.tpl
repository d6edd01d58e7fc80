{{/* What the restricted Pod Security Standard asks for, and a root file system that nobody writes. */}}
{{- define "meshsigner.confined" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
runAsNonRoot: true
capabilities: {drop: [ALL]}
seccompProfile: {type: RuntimeDefault}
{{- end }}

{{/* A hook before install and upgrade, gone when it has succeeded. */}}
{{- define "meshsigner.hook" -}}
helm.sh/hook: pre-install,pre-upgrade
helm.sh/hook-weight: {{ . | quote }}
helm.sh/hook-delete-policy: before-hook-creation,hook-succeeded
{{- end }}
