module kubepin.local/legacy-hook

go 1.25.0
