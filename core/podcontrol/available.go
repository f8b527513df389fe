package podcontrol

import (
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/zeroplane/zeroplane/core/plan"
	"github.com/zeroplane/zeroplane/core/podstate"
)

// laterAvailable is the Kind of the plan.Later that looks for pods which have become available.
const laterAvailable = "available"

// Counts are the pods that a status counts as ready and as available.
type Counts struct{ Ready, Available int32 }

// AvailableLater asks to be called about a controller when the next of its ready pods becomes available, and takes that back
// when there is none any more. before and after are what its status counts. It is the end of syncReplicaSet, syncStatefulSet
// and updateDaemonSetStatus.
func AvailableLater(of plan.Ref, pods []*corev1.Pod, minReadySeconds int32, before, after Counts, now time.Time) []plan.Later {
	due := podstate.NextAvailable(pods, minReadySeconds, now)
	waited := minReadySeconds > 0 && before.Ready != before.Available
	if due.IsZero() && (!waited || after.Ready != after.Available) {
		return nil
	}
	return []plan.Later{{At: due, Kind: laterAvailable, Subject: of}}
}
