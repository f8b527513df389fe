package scheduling_test

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	resourceapi "k8s.io/api/resource/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/zeroplane/zeroplane/core/scheduling"
)

// driver is the CSI driver "d", which tells how much it has, and must be on the nodes of its pods, or not.
func driver(counts, needed bool) *storagev1.CSIDriver {
	return &storagev1.CSIDriver{ObjectMeta: metav1.ObjectMeta{Name: "d"}, Spec: storagev1.CSIDriverSpec{
		StorageCapacity: &counts, PreventPodSchedulingIfMissing: &needed,
	}}
}

// zoned is a volume of a zone, by the label that VolumeZone looks at.
func zoned(zone string) func(*corev1.PersistentVolume) {
	return func(pv *corev1.PersistentVolume) { pv.Labels[corev1.LabelTopologyZone] = zone }
}

// onDisk has a pod mount a disk that one pod of a node may.
func onDisk(p *corev1.Pod) {
	p.Spec.Volumes = append(p.Spec.Volumes, corev1.Volume{Name: "disk", VolumeSource: corev1.VolumeSource{
		ISCSI: &corev1.ISCSIVolumeSource{IQN: "disk"},
	}})
}

func inNamespace(name string) func(*corev1.Pod) { return func(p *corev1.Pod) { p.Namespace = name } }

// full is a cluster whose node a can attach one volume of the driver "d", and has one.
func full(c *scheduling.Cluster) {
	c.SetCSINode(attaching("a", 1))
	c.SetVolume(volume("v", "now"))
	c.SetVolume(volume("w", "now"))
	c.SetClaim(claim("c", "now", boundTo("v")))
	c.SetClaim(claim("other", "now", boundTo("w")))
	c.SetPod(pod("other", on("a"), mounting("other")))
}

// drawn is a cluster whose node a has the device x, which the claim "other" has.
func drawn(c *scheduling.Cluster) {
	c.SetDeviceClass(deviceClass("gpu"))
	c.SetResourceSlice(pool("a", device("x")))
	c.SetResourceClaim(deviceClaim("c"))
	c.SetResourceClaim(deviceClaim("other", having("a", "x", "other")))
}

// TestAChangeWakesThePodThatItLetsIn by each plugin's hint alone: there is a node a, in zone a, that refuses the pod p before.
func TestAChangeWakesThePodThatItLetsIn(t *testing.T) {
	const feature = "RestartAllContainersOnContainerExits"
	needy := func(p *corev1.Pod) {
		p.Spec.Containers[0].RestartPolicyRules = []corev1.ContainerRestartRule{{Action: corev1.ContainerRestartRuleActionRestartAllContainers}}
	}
	a := func(change ...func(*corev1.Node)) *corev1.Node {
		return node("a", append([]func(*corev1.Node){inZone("a")}, change...)...)
	}
	b := func(change ...func(*corev1.Node)) *corev1.Node {
		return node("b", append([]func(*corev1.Node){inZone("b")}, change...)...)
	}
	type cluster = scheduling.Cluster
	web, apart := labelled("web"), spread(corev1.LabelHostname, corev1.DoNotSchedule)
	crowded := func(c *cluster) {
		c.SetNode(b(cordoned))
		c.SetPod(pod("other", on("a"), web))
	}
	for name, test := range map[string]struct {
		pod           *corev1.Pod
		before, after func(*cluster)
	}{
		"a pod alike begins to leave": {
			pod("p", web, apart), crowded, func(c *cluster) {
				c.SetPod(pod("other", on("a"), web, func(p *corev1.Pod) { p.DeletionTimestamp = new(metav1.NewTime(now)) }))
			},
		},
		"a pod alike has other labels": {
			pod("p", web, apart), crowded, func(c *cluster) { c.SetPod(pod("other", on("a"), labelled("db"))) },
		},
		"a pod alike came elsewhere": {
			pod("p", web, apart), crowded, func(c *cluster) { c.SetPod(pod("more", on("b"), web)) },
		},
		"a node without pods alike goes": {pod("p", web, apart), crowded, func(c *cluster) { c.DeleteNode("b") }},
		"a node without pods alike is in no domain": {
			pod("p", web, apart), crowded, func(c *cluster) {
				c.SetNode(b(cordoned, func(n *corev1.Node) { delete(n.Labels, corev1.LabelHostname) }))
			},
		},
		"a node without pods alike does not count": {
			pod("p", web, apart, func(p *corev1.Pod) { p.Spec.NodeSelector = map[string]string{"kept": "yes"} }), func(c *cluster) {
				kept := func(n *corev1.Node) { n.Labels["kept"] = "yes" }
				c.SetNode(a(kept))
				c.SetNode(b(cordoned, kept))
				c.SetPod(pod("other", on("a"), web))
			}, func(c *cluster) { c.SetNode(b(cordoned)) },
		},
		"the pod is the first of its kind": {
			pod("p", web, near("web", corev1.LabelTopologyZone)), func(c *cluster) {
				c.SetNode(b(cordoned))
				c.SetPod(pod("other", on("b"), web))
			}, func(c *cluster) { c.DeletePod("default", "other") },
		},
		"the pod is the first of its kind in a domain": {
			pod("p", web, near("web", corev1.LabelTopologyZone)), func(c *cluster) {
				c.SetNode(b(cordoned))
				c.SetPod(pod("other", on("b"), web))
			}, func(c *cluster) { c.SetNode(node("b", cordoned)) },
		},
		"a node with pods of its kind moves near": {
			pod("p", near("web", corev1.LabelTopologyZone)), func(c *cluster) {
				c.SetNode(b(cordoned))
				c.SetPod(pod("other", on("b"), web))
			}, func(c *cluster) { c.SetNode(node("b", inZone("a"), cordoned)) },
		},
		"a feature is declared": {
			pod("p", needy), func(*cluster) {},
			func(c *cluster) { c.SetNode(a(func(n *corev1.Node) { n.Status.DeclaredFeatures = []string{feature} })) },
		},
		"a disk of another namespace is let go": {
			pod("p", onDisk), func(c *cluster) { c.SetPod(pod("other", on("a"), onDisk, inNamespace("else"))) },
			func(c *cluster) { c.DeletePod("else", "other") },
		},
		"the node of who uses a claim alone goes": {
			pod("p", mounting("c")), func(c *cluster) {
				c.SetVolume(volume("v", "now"))
				c.SetClaim(claim("c", "now", forOnePod, boundTo("v")))
				c.SetNode(b())
				c.SetPod(pod("other", on("b"), mounting("c")))
			}, func(c *cluster) { c.DeleteNode("b") },
		},
		"a claim came": {
			pod("p", mounting("c")), func(c *cluster) { c.SetVolume(volume("v", "now")) },
			func(c *cluster) { c.SetClaim(claim("c", "now", boundTo("v"))) },
		},
		"a claim is bound": {
			pod("p", mounting("c")), func(c *cluster) {
				c.SetVolume(volume("v", "now"))
				c.SetClaim(claim("c", "now"))
			}, func(c *cluster) { c.SetClaim(claim("c", "now", boundTo("v"))) },
		},
		"a node without limits came":     {pod("p", mounting("c")), full, func(c *cluster) { c.SetNode(b()) }},
		"a volume is let go":             {pod("p", mounting("c")), full, func(c *cluster) { c.DeletePod("default", "other") }},
		"another attaches the same":      {pod("p", mounting("c")), full, func(c *cluster) { c.SetPod(pod("more", on("a"), mounting("c"))) }},
		"what was attached has no claim": {pod("p", mounting("c")), full, func(c *cluster) { c.DeleteClaim("default", "other") }},
		"both claims are of one volume": {
			pod("p", mounting("c")), full, func(c *cluster) {
				c.SetVolume(volume("w", "now", func(pv *corev1.PersistentVolume) { pv.Spec.CSI.VolumeHandle = "v" }))
			},
		},
		"a class makes volumes by another driver": {
			pod("p", mounting("c")), func(c *cluster) {
				full(c)
				c.DeleteVolume("w")
			}, func(c *cluster) { c.DeleteStorageClass("now") },
		},
		"a limit is raised": {pod("p", mounting("c")), full, func(c *cluster) { c.SetCSINode(attaching("a", 2)) }},
		"a limit goes": {pod("p", mounting("c")), full, func(c *cluster) {
			n := attaching("a", 1)
			n.Spec.Drivers[0].Allocatable = nil
			c.SetCSINode(n)
		}},
		"limits go": {pod("p", mounting("c")), full, func(c *cluster) { c.DeleteCSINode("a") }},
		"a driver need not be there": {
			pod("p", mounting("c")), func(c *cluster) {
				full(c)
				c.DeleteCSINode("a")
				c.SetCSIDriver(driver(false, true))
			}, func(c *cluster) { c.SetCSIDriver(driver(false, false)) },
		},
		"an attachment goes": {
			pod("p", mounting("c")), func(c *cluster) {
				full(c)
				c.DeletePod("default", "other")
				c.SetAttachment(&storagev1.VolumeAttachment{ObjectMeta: metav1.ObjectMeta{Name: "va"}, Spec: storagev1.VolumeAttachmentSpec{
					Attacher: "d", NodeName: "a", Source: storagev1.VolumeAttachmentSource{PersistentVolumeName: new("w")},
				}})
			}, func(c *cluster) { c.DeleteAttachment("va") },
		},
		"a volume's node came": {
			pod("p", mounting("c")), func(c *cluster) {
				c.SetVolume(volume("v", "now", onlyOn("b")))
				c.SetClaim(claim("c", "now", boundTo("v")))
			}, func(c *cluster) { c.SetNode(b()) },
		},
		"a volume is not that of a driver any more": {
			pod("p", mounting("c")), func(c *cluster) {
				migrated := attaching("a", 1)
				migrated.Annotations = map[string]string{corev1.MigratedPluginsAnnotationKey: "kubernetes.io/gce-pd"}
				c.SetCSINode(migrated)
				c.SetVolume(volume("v", "now", func(pv *corev1.PersistentVolume) {
					pv.Spec.PersistentVolumeSource = corev1.PersistentVolumeSource{GCEPersistentDisk: &corev1.GCEPersistentDiskVolumeSource{PDName: "v"}}
					pv.Spec.NodeAffinity = &corev1.VolumeNodeAffinity{Required: &corev1.NodeSelector{NodeSelectorTerms: []corev1.NodeSelectorTerm{
						{MatchExpressions: []corev1.NodeSelectorRequirement{{Key: corev1.LabelTopologyZone, Operator: corev1.NodeSelectorOpIn, Values: []string{"a"}}}},
					}}}
				}))
				c.SetClaim(claim("c", "now", boundTo("v")))
			}, func(c *cluster) { c.SetCSINode(attaching("a", 1)) },
		},
		"a volume came": {
			pod("p", mounting("c")), func(c *cluster) { c.SetClaim(claim("c", "given")) },
			func(c *cluster) { c.SetVolume(volume("v", "given")) },
		},
		"a volume of the claim's that was too far goes": {
			pod("p", mounting("c")), func(c *cluster) {
				pvc := claim("c", "given")
				c.SetClaim(pvc)
				c.SetVolume(volume("free", "given"))
				c.SetVolume(volume("v", "given", onlyOn("b"), func(pv *corev1.PersistentVolume) {
					pv.Spec.ClaimRef = &corev1.ObjectReference{Namespace: "default", Name: "c", UID: pvc.UID}
				}))
			}, func(c *cluster) { c.DeleteVolume("v") },
		},
		"a class makes volumes everywhere": {
			pod("p", mounting("c")), func(c *cluster) {
				c.SetClaim(claim("c", "made"))
				c.SetNode(node("a", inZone("b")))
			}, func(c *cluster) {
				class := classes()[1]
				class.AllowedTopologies = nil
				c.SetStorageClass(class)
			},
		},
		"there is more capacity": {
			pod("p", mounting("c")), func(c *cluster) {
				c.SetClaim(claim("c", "made"))
				c.SetCSIDriver(driver(true, false))
				c.SetStorageCapacity(room("a", "1Gi"))
			}, func(c *cluster) { c.SetStorageCapacity(room("a", "10Gi")) },
		},
		"capacity is not counted": {
			pod("p", mounting("c")), func(c *cluster) {
				c.SetClaim(claim("c", "made"))
				c.SetCSIDriver(driver(true, false))
			}, func(c *cluster) { c.DeleteCSIDriver("d") },
		},
		"a volume's zone is told": {
			pod("p", mounting("c")), func(c *cluster) {
				c.SetVolume(volume("v", "now", zoned("b")))
				c.SetClaim(claim("c", "now", boundTo("v")))
			}, func(c *cluster) { c.SetVolume(volume("v", "now", zoned("a"))) },
		},
		"a claim has a volume of another zone": {
			pod("p", mounting("c")), func(c *cluster) {
				c.SetVolume(volume("v", "now", zoned("b")))
				c.SetVolume(volume("w", "now", zoned("a")))
				c.SetClaim(claim("c", "now", boundTo("v")))
			}, func(c *cluster) { c.SetClaim(claim("c", "now", boundTo("w"))) },
		},
		"a device is given back": {pod("p", using("c")), drawn, func(c *cluster) { c.SetResourceClaim(deviceClaim("other")) }},
		"a claim with a device goes": {
			pod("p", using("c")), drawn, func(c *cluster) { c.DeleteResourceClaim("default", "other") },
		},
		"a claim has another device": {
			pod("p", using("c")), func(c *cluster) {
				drawn(c)
				c.SetResourceSlice(pool("b", device("x")))
			}, func(c *cluster) { c.SetResourceClaim(deviceClaim("other", having("b", "x", "other"))) },
		},
		"the pod's claim gets a device": {
			pod("p", using("c")), drawn, func(c *cluster) { c.SetResourceClaim(deviceClaim("c", having("a", "y", "else"))) },
		},
		"devices come": {
			pod("p", using("c")), drawn, func(c *cluster) { c.SetResourceSlice(pool("a", device("x"), device("y"))) },
		},
		"devices of an unfinished generation go": {
			pod("p", using("c")), func(c *cluster) {
				drawn(c)
				c.DeleteResourceClaim("default", "other")
				next := pool("a", device("z"))
				next.Name, next.Spec.Pool.Generation, next.Spec.Pool.ResourceSliceCount = "next", 2, 2
				c.SetResourceSlice(next)
			}, func(c *cluster) { c.DeleteResourceSlice("next") },
		},
		"devices are tainted no more": {
			pod("p", using("c")), func(c *cluster) {
				drawn(c)
				c.DeleteResourceClaim("default", "other")
				c.SetDeviceTaintRule(&resourceapi.DeviceTaintRule{ObjectMeta: metav1.ObjectMeta{Name: "r"}, Spec: resourceapi.DeviceTaintRuleSpec{
					DeviceSelector: &resourceapi.DeviceTaintSelector{Pool: new("a")}, Taint: resourceapi.DeviceTaint{Key: "k", Effect: resourceapi.DeviceTaintEffectNoSchedule},
				}})
			}, func(c *cluster) { c.DeleteDeviceTaintRule("r") },
		},
		"a class of devices came": {
			pod("p", using("c")), func(c *cluster) {
				drawn(c)
				c.DeleteResourceClaim("default", "other")
				c.DeleteDeviceClass("gpu")
			}, func(c *cluster) { c.SetDeviceClass(deviceClass("gpu")) },
		},
		"a node with devices came": {
			pod("p", using("c")), func(c *cluster) {
				drawn(c)
				c.SetResourceSlice(pool("b", device("x")))
			}, func(c *cluster) { c.SetNode(b()) },
		},
		"a node is where devices can be used": {
			pod("p", using("c")), func(c *cluster) {
				drawn(c)
				shared := pool("shared", device("x"))
				shared.Spec.NodeName, shared.Spec.NodeSelector = nil, &corev1.NodeSelector{NodeSelectorTerms: []corev1.NodeSelectorTerm{{
					MatchExpressions: []corev1.NodeSelectorRequirement{{Key: "rack", Operator: corev1.NodeSelectorOpExists}},
				}}}
				c.SetResourceSlice(shared)
			}, func(c *cluster) { c.SetNode(a(func(n *corev1.Node) { n.Labels["rack"] = "7" })) },
		},
		"a node offers itself what devices were asked for": {
			pod("p", asking("example.com/gpu=1")), func(c *cluster) {
				drawn(c)
				c.SetDeviceClass(deviceClass("gpu", func(c *resourceapi.DeviceClass) { c.Spec.ExtendedResourceName = new("example.com/gpu") }))
			}, func(c *cluster) { c.SetNode(a(offering("example.com/gpu=1"))) },
		},
		"a class backs a resource": {
			pod("p", asking("example.com/gpu=1")), func(c *cluster) {
				drawn(c)
				c.DeleteResourceClaim("default", "other")
			}, func(c *cluster) {
				c.SetDeviceClass(deviceClass("gpu", func(c *resourceapi.DeviceClass) { c.Spec.ExtendedResourceName = new("example.com/gpu") }))
			},
		},
		"a class of that name backs a resource": {
			pod("p", asking(resourceapi.ResourceDeviceClassPrefix+"new=1")), func(c *cluster) {
				drawn(c)
				c.DeleteResourceClaim("default", "other")
			}, func(c *cluster) { c.SetDeviceClass(deviceClass("new")) },
		},
		"a node moves": {
			pod("p", mounting("c")), func(c *cluster) {
				c.SetVolume(volume("v", "now", zoned("b")))
				c.SetClaim(claim("c", "now", boundTo("v")))
			}, func(c *cluster) { c.SetNode(node("a", inZone("b"))) },
		},
	} {
		c := scheduling.NewCluster()
		each(classes(), c.SetStorageClass)
		c.SetNode(a())
		test.before(c)
		c.SetPod(test.pod)
		first := c.Place(1, now)
		if len(first.Unschedulable) != 1 || len(first.Plan.Writes) != 1 {
			t.Errorf("%s: p is not refused before: %v", name, volumeOutcome(first))
			continue
		}
		c.SetPod(first.Plan.Writes[0].Object.(*corev1.Pod))
		if !c.Settled(now) {
			t.Errorf("%s: p does not sleep", name)
		}
		test.after(c)
		if c.Settled(now) {
			t.Errorf("%s: p is not woken", name)
		}
		if got := c.PlaceWoken(1, now); len(got.Placements) != 1 {
			t.Errorf("%s: p is not let in: %v", name, volumeOutcome(got))
		}
	}
}
