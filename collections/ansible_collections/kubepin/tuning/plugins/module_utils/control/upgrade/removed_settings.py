# SPDX-License-Identifier: GPL-3.0-or-later
"""What later kubelets, API servers and kubeadms no longer know, made by tools/removed_settings.py."""

from __future__ import annotations

from collections.abc import Mapping


def by_name(removed: Mapping[int, str]) -> dict[str, int]:
    """Name -> the first minor version of 1.x without it."""
    return {name: minor for minor, names in removed.items() for name in names.split()}


FLAGS = by_name(
    {
        21: "enable-cadvisor-json-endpoints",
        22: "chaos-chance redirect-container-streaming",
        23: "experimental-bootstrap-kubeconfig seccomp-profile-root",
        24: (
            "cni-bin-dir cni-cache-dir cni-conf-dir docker docker-endpoint docker-env-metadata-whitelist docker-only "
            "docker-root docker-tls docker-tls-ca docker-tls-cert docker-tls-key dynamic-config-dir "
            "experimental-check-node-capabilities-before-mount experimental-dockershim-root-directory "
            "experimental-logging-sanitization image-pull-progress-deadline network-plugin network-plugin-mtu "
            "non-masquerade-cidr really-crash-for-testing"
        ),
        25: "experimental-kernel-memcg-notification",
        26: (
            "add-dir-header alsologtostderr log-backtrace-at log-dir log-file log-file-max-size logtostderr one-output "
            "skip-headers skip-log-headers stderrthreshold"
        ),
        27: "container-runtime master-service-namespace",
        31: "iptables-drop-bit iptables-masquerade-bit keep-terminated-pod-volumes",
        34: "cloud-config register-schedulable",
        35: "pod-infra-container-image",
        37: (
            "application-metrics-count-limit boot-id-file container-hints containerd containerd-namespace "
            "enable-load-reader event-storage-age-limit event-storage-event-limit global-housekeeping-interval "
            "log-cadvisor-usage machine-id-file storage-driver-buffer-duration storage-driver-db storage-driver-host "
            "storage-driver-password storage-driver-secure storage-driver-table storage-driver-user"
        ),
    }
)
"""The kubelet's flags."""

GATES = by_name(
    {
        21: (
            "AttachVolumeLimit BlockVolume CSIBlockVolume CSIDriverRegistry CSIMigrationAWSComplete "
            "CSIMigrationAzureDiskComplete CSIMigrationAzureFileComplete CSIMigrationGCEComplete "
            "CSIMigrationOpenStackComplete CSINodeInfo EvenPodsSpread HyperVContainer RotateKubeletClientCertificate "
            "TokenRequest TokenRequestProjection VolumePVCDataSource WindowsGMSA WindowsRunAsUserName"
        ),
        22: (
            "BalanceAttachedNodeVolumes CRIContainerLogRotation CSIMigrationvSphereComplete "
            "ExternalPolicyForExternalIP LegacyNodeRoleBehavior NodeDisruptionExclusion RootCAConfigMap RunAsGroup "
            "SCTPSupport ServiceAppProtocol ServiceNodeExclusion ServiceTopology VolumeSnapshotDataSource"
        ),
        23: (
            "AllowInsecureBackendProxy BoundServiceAccountTokenVolume CronJobControllerV2 NodeLease "
            "ServiceAccountIssuerDiscovery StartupProbe SupportNodePidsLimit SupportPodPidsLimit Sysctls"
        ),
        24: (
            "HugePageStorageMediumSize ImmutableEphemeralVolumes NamespaceDefaultLabelName RuntimeClass "
            "SetHostnameAsFQDN StreamingProxyRedirects ValidateProxyRedirects WarningHeaders csiMigrationRBD"
        ),
        25: (
            "CSIServiceAccountToken CSIVolumeFSGroupPolicy ConfigurableFSGroupPolicy EndpointSlice "
            "EndpointSliceNodeName EndpointSliceProxying GenericEphemeralVolume IPv6DualStack "
            "IngressClassNamespacedParams PodDisruptionBudget SelectorIndex StorageObjectInUseProtection "
            "TTLAfterFinished VolumeSubpath WindowsEndpointSliceProxying"
        ),
        26: (
            "CSIMigrationOpenStack CSRDuration DefaultPodTopologySpread DynamicKubeletConfig IndexedJob "
            "NonPreemptingPriority PodAffinityNamespaceSelector PodOverhead PreferNominatedNode "
            "ServiceLBNodePortControl ServiceLoadBalancerClass SuspendJob"
        ),
        27: (
            "CSIInlineVolume CSIMigration CSIMigrationAWS CSIMigrationAzureDisk ControllerManagerLeaderMigration "
            "DaemonSetUpdateSurge EphemeralContainers ExpandCSIVolumes ExpandInUsePersistentVolumes "
            "ExpandPersistentVolumes IdentifyPodOS LocalStorageCapacityIsolation NetworkPolicyEndPort "
            "StatefulSetMinReadySeconds"
        ),
        28: (
            "AdvancedAuditing CSIMigrationGCE CSIStorageCapacity DelegateFSGroupToCSIDriver DevicePlugins "
            "DisableAcceleratorUsageMetrics DryRun EndpointSliceTerminatingCondition KubeletCredentialProviders "
            "MixedProtocolLBService NetworkPolicyStatus PodHasNetworkCondition PodSecurity ServiceIPStaticSubrange "
            "ServiceInternalTrafficPolicy UserNamespacesStatelessPodsSupport WindowsHostProcessContainers"
        ),
        29: (
            "CSIMigrationvSphere CronJobTimeZone DownwardAPIHugePages GRPCContainerProbe "
            "JobMutableNodeSchedulingDirectives JobTrackingWithFinalizers LegacyServiceAccountTokenNoAutoGeneration "
            "MultiCIDRRangeAllocator OpenAPIV3 ProbeTerminationGracePeriod RetroactiveDefaultStorageClass "
            "SeccompDefault TopologyManager"
        ),
        30: (
            "APISelfSubjectReview CSIMigrationAzureFile ExpandedDNSConfig ExperimentalHostUserNamespaceDefaulting "
            "IPTablesOwnershipCleanup KubeletPodResources KubeletPodResourcesGetAllocatable "
            "LegacyServiceAccountTokenTracking MinimizeIPTablesRestore ProxyTerminatingEndpoints RemoveSelfLink "
            "SecurityContextDeny"
        ),
        31: (
            "APIPriorityAndFairness CSIMigrationRBD CSINodeExpandSecret ConsistentHTTPGetHandlers "
            "CustomResourceValidationExpressions DefaultHostNetworkHostPortsInPodTemplates InTreePluginAWSUnregister "
            "InTreePluginAzureDiskUnregister InTreePluginAzureFileUnregister InTreePluginGCEUnregister "
            "InTreePluginOpenStackUnregister InTreePluginRBDUnregister InTreePluginvSphereUnregister JobReadyPods "
            "ReadWriteOncePod ServiceNodePortStaticSubrange SkipReadOnlyValidationGCE"
        ),
        32: (
            "CloudControllerManagerWebhook CloudDualStackNodeIPs DRAControlPlaneController HPAContainerMetrics KMSv2 "
            "KMSv2KDF LegacyServiceAccountTokenCleanUp MinDomainsInPodTopologySpread NewVolumeManagerReconstruction "
            "NodeOutOfServiceVolumeDetach PodHostIPs ServerSideApply ServerSideFieldValidation "
            "StableLoadBalancerNodeSet ValidatingAdmissionPolicy ZeroLimitedNominalConcurrencyShares"
        ),
        33: (
            "APIListChunking AdmissionWebhookMatchConditions AggregatedDiscoveryEndpoint AppArmor AppArmorFields "
            "CPUManager DisableCloudProviders DisableKubeletCloudCredentialProviders EfficientWatchResumption "
            "JobPodFailurePolicy KubeProxyDrainingTerminatingNodes PDBUnhealthyPodEvictionPolicy "
            "PersistentVolumeLastPhaseTransitionTime RemainingItemCount VolumeCapacityPriority WatchBookmark"
        ),
        34: (
            "DevicePluginCDIDevices ElasticIndexedJob LegacySidecarContainers PodDisruptionConditions "
            "StatefulSetStartOrdinal"
        ),
        35: (
            "AllowServiceLBStatusOnNonLB ComponentSLIs CronJobsScheduledAnnotation LoadBalancerIPMode PodIndexLabel "
            "ProbeHostPodSecurityStandards SizeMemoryBackedVolumes StatefulSetAutoDeletePVC "
            "StrictCostEnforcementForVAP StrictCostEnforcementForWebhooks UserNamespacesPodSecurityStandards"
        ),
        36: (
            "CSIMigrationPortworx HonorPVReclaimPolicy InPlacePodVerticalScalingAllocatedStatus "
            "InTreePluginPortworxUnregister MemoryManager ServiceTrafficDistribution "
            "StructuredAuthorizationConfiguration TopologyAwareHints WatchFromStorageWithoutResourceVersion"
        ),
        37: (
            "APIServerTracing AnonymousAuthConfigurableEndpoints AnyVolumeDataSource AuthorizeNodeWithSelectors "
            "AuthorizeWithSelectors BtreeWatchCache ConsistentListFromCache GangScheduling JobBackoffLimitPerIndex "
            "JobPodReplacementPolicy JobSuccessPolicy LogarithmicScaleDown OrderedNamespaceDeletion "
            "PodLifecycleSleepAction PodLifecycleSleepActionAllowZero PreventStaticPodAPIReferences "
            "RelaxedDNSSearchValidation ResilientWatchCacheInitialization RetryGenerateName SchedulerQueueingHints "
            "SidecarContainers StreamingCollectionEncodingToJSON StreamingCollectionEncodingToProtobuf "
            "StructuredAuthenticationConfiguration WorkloadAwarePreemption"
        ),
    }
)
"""Feature gates of the kubelet and the control plane, which share their definitions."""

ADMISSION_PLUGINS = by_name(
    {
        25: "PodPriority PodSecurityPolicy",
        30: "SecurityContextDeny",
        31: "PersistentVolumeLabel",
        37: "JobValidation PodGroupWorkloadExists",
    }
)
"""The API server's admission plugins."""

KUBEADM_APIS = by_name(
    {
        22: "v1beta1",
        27: "v1beta2",
        37: "v1beta3",
    }
)
"""Versions of kubeadm's configuration API."""
