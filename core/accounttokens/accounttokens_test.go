package accounttokens

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"pgregory.net/rapid"

	"github.com/zeroplane/zeroplane/core/plan"
)

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

const year = 365 * 24 * time.Hour

func account(uid types.UID, lists ...string) *corev1.ServiceAccount {
	sa := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "robot", UID: uid, ResourceVersion: "3"}}
	for _, name := range lists {
		sa.Secrets = append(sa.Secrets, corev1.ObjectReference{Name: name})
	}
	return sa
}

// secret is one of robot's.
func secret(alter ...func(*corev1.Secret)) *corev1.Secret {
	s := &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: "ns", Name: "t", UID: "uid", ResourceVersion: "7", CreationTimestamp: metav1.NewTime(noon.Add(-3 * year)),
			Annotations: map[string]string{"kubernetes.io/service-account.name": "robot"},
		},
		Type: corev1.SecretTypeServiceAccountToken,
	}
	for _, change := range alter {
		change(s)
	}
	return s
}

func ofUID(uid string) func(*corev1.Secret) {
	return func(s *corev1.Secret) { s.Annotations["kubernetes.io/service-account.uid"] = uid }
}

func holding(values ...string) func(*corev1.Secret) {
	return func(s *corev1.Secret) {
		s.Data = map[string][]byte{}
		for _, v := range values {
			key, value, _ := strings.Cut(v, "=")
			s.Data[key] = []byte(value)
		}
	}
}

func labelled(key, value string) func(*corev1.Secret) {
	return func(s *corev1.Secret) { metav1.SetMetaDataLabel(&s.ObjectMeta, key, value) }
}

func TestOf(t *testing.T) {
	for name, test := range map[string]struct {
		secret  *corev1.Secret
		account *corev1.ServiceAccount
		is      bool
	}{
		"of whoever has the name": {secret(), account("1"), true},
		"of one account":          {secret(ofUID("1")), account("1"), true},
		"of one that was there":   {secret(ofUID("1")), account("2"), false},
		"nobody has the name":     {secret(), nil, false},
		"nobody is named":         {secret(func(s *corev1.Secret) { s.Annotations = nil }), account("1"), false},
		"of another type":         {secret(func(s *corev1.Secret) { s.Type = corev1.SecretTypeOpaque }), account("1"), false},
		"of another namespace's":  {secret(func(s *corev1.Secret) { s.Namespace = "other" }), account("1"), false},
		"of an account that will go": {secret(), func() *corev1.ServiceAccount {
			sa := account("1")
			sa.DeletionTimestamp = new(metav1.NewTime(noon))
			return sa
		}(), true},
	} {
		t.Run(name, func(t *testing.T) {
			of, ok := Of(test.secret)
			if got := ok && of.Is(test.account); got != test.is {
				t.Errorf("%+v, %t: it is the account's: %t", of, ok, got)
			}
		})
	}
}

func TestFill(t *testing.T) {
	all := holding("ca.crt=CA", "namespace=ns", "token=TOKEN")
	for name, test := range map[string]struct {
		secret *corev1.Secret
		rootCA string
		after  *corev1.Secret // nil for no write
	}{
		"an empty one":            {secret(), "CA", secret(ofUID("1"), all)},
		"one that is full":        {secret(ofUID("1"), all), "CA", nil},
		"full, but not of whom":   {secret(all), "CA", nil},
		"without a token":         {secret(holding("ca.crt=CA", "namespace=ns")), "CA", secret(ofUID("1"), all)},
		"with a token of its own": {secret(holding("token=OWN")), "CA", secret(ofUID("1"), holding("ca.crt=CA", "namespace=ns", "token=OWN"))},
		"with an older CA":        {secret(holding("ca.crt=OLD", "namespace=ns", "token=TOKEN")), "CA", secret(ofUID("1"), all)},
		"nobody knows the CA":     {secret(holding("ca.crt=OLD", "namespace=ns", "token=TOKEN")), "", nil},
		"another namespace":       {secret(holding("ca.crt=CA", "namespace=other", "token=TOKEN")), "CA", nil},
		"more than that":          {secret(holding("extra=1")), "CA", secret(ofUID("1"), holding("ca.crt=CA", "namespace=ns", "token=TOKEN", "extra=1"))},
	} {
		t.Run(name, func(t *testing.T) {
			given := test.secret.DeepCopy()
			p := Fill(test.secret, account("1"), Content{RootCA: test.rootCA, Token: "TOKEN"})
			if diff := cmp.Diff(given, test.secret); diff != "" {
				t.Errorf("the decision altered its input: %s", diff)
			}
			want := plan.Plan{}
			if test.after != nil {
				want = plan.Plan{
					Writes: []plan.Write{{
						Verb: plan.Update, Resource: plan.Secrets, Namespace: "ns", Name: "t", Object: test.after,
						Reason: "it lacks what a ServiceAccount's token consists of",
					}},
					Reads: []plan.Read{
						{Resource: plan.Secrets, Namespace: "ns", Name: "t"}, {Resource: plan.ServiceAccounts, Namespace: "ns", Name: "robot", Again: true},
					},
				}
			}
			if diff := cmp.Diff(want, p); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestASecretGoesWithItsAccount(t *testing.T) {
	s := secret(ofUID("1"))
	gone, _ := Of(s)
	want := plan.Plan{
		Writes: []plan.Write{{Verb: plan.Delete, Resource: plan.Secrets, Namespace: "ns", Name: "t", UID: "uid", Reason: "the ServiceAccount of its token is gone"}},
		Reads: []plan.Read{
			{Resource: plan.Secrets, Namespace: "ns", Name: "t"}, {Resource: plan.ServiceAccounts, Namespace: "ns", Name: "robot", Again: true},
		},
	}
	if diff := cmp.Diff(want, Remove(s, gone)); diff != "" {
		t.Error(diff)
	}
}

func TestAnAccountForgetsASecretThatIsGone(t *testing.T) {
	want := plan.Plan{
		Writes: []plan.Write{{
			Verb: plan.Update, Resource: plan.ServiceAccounts, Namespace: "ns", Name: "robot", Object: account("1", "a", "b"),
			Reason: "it lists the Secret of a token that is gone",
		}},
		Reads: []plan.Read{{Resource: plan.ServiceAccounts, Namespace: "ns", Name: "robot"}},
	}
	if diff := cmp.Diff(want, Forget(account("1", "a", "t", "b", "t"), "t")); diff != "" {
		t.Error(diff)
	}
	if p := Forget(account("1", "a"), "t"); !p.Empty() {
		t.Errorf("one that it does not list: %+v", p)
	}
}

func TestTrack(t *testing.T) {
	tracking := func(data map[string]string) *corev1.ConfigMap {
		m := Tracking(noon)
		m.Data = data
		return m
	}
	today := map[string]string{"since": "2026-03-01"}
	write := func(verb plan.Verb, reason string, after map[string]string) []plan.Write {
		return []plan.Write{{
			Verb: verb, Resource: plan.ConfigMaps, Namespace: "kube-system", Name: "kube-apiserver-legacy-service-account-token-tracking",
			Object: tracking(after), Reason: reason,
		}}
	}
	const broken = "it does not say since when uses of tokens are noted"
	for name, test := range map[string]struct {
		existing *corev1.ConfigMap
		want     []plan.Write
		since    time.Time // zero for unknown
	}{
		"none":                    {nil, write(plan.Create, "uses of tokens are noted from now on", today), time.Time{}},
		"since a while":           {tracking(map[string]string{"since": "2024-02-28"}), nil, time.Date(2024, 2, 29, 0, 0, 0, 0, time.UTC)},
		"since nobody knows when": {tracking(map[string]string{"since": "once", "x": "y"}), write(plan.Update, broken, map[string]string{"since": "2026-03-01", "x": "y"}), time.Time{}},
		"empty":                   {tracking(nil), write(plan.Update, broken, today), time.Time{}},
	} {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(test.want, Track(test.existing, noon).Writes); diff != "" {
				t.Error(diff)
			}
			since, ok := TrackedSince(test.existing)
			if ok == test.since.IsZero() || ok && !since.Equal(test.since) {
				t.Errorf("tracked since %s, %t", since, ok)
			}
		})
	}
}

func TestRetire(t *testing.T) {
	const used, invalid = "kubernetes.io/legacy-token-last-used", "kubernetes.io/legacy-token-invalid-since"
	auto := account("1", "t")
	reads := []plan.Read{
		{Resource: plan.Secrets, Namespace: "ns", Name: "t"}, {Resource: plan.ServiceAccounts, Namespace: "ns", Name: "robot", Again: true},
		{Resource: plan.Pods, Namespace: "ns", Arrivals: true, Again: true},
	}
	invalidate := plan.Plan{
		Writes: []plan.Write{{
			Verb: plan.Patch, Resource: plan.Secrets, Namespace: "ns", Name: "t", PatchType: types.MergePatchType,
			PatchBody: []byte(`{"metadata":{"uid":"uid","labels":{"kubernetes.io/legacy-token-invalid-since":"2026-03-01"}}}`),
			Reason:    "its token has not been used for a year",
		}},
		Reads: reads,
	}
	remove := plan.Plan{
		Writes: []plan.Write{{
			Verb: plan.Delete, Resource: plan.Secrets, Namespace: "ns", Name: "t", UID: "uid", ResourceVersion: "7",
			Reason: "its token has been invalid for a year",
		}},
		Reads: reads,
	}
	look := func(at time.Time) plan.Plan {
		return plan.Plan{Later: []plan.Later{{
			At: at, Kind: "look", Subject: plan.Ref{Resource: plan.Secrets, Namespace: "ns", Name: "t", UID: "uid"},
		}}}
	}
	day := func(y, m, d int) time.Time { return time.Date(y, time.Month(m), d, 0, 0, 0, 0, time.UTC) }
	for name, test := range map[string]struct {
		secret  *corev1.Secret
		owner   *corev1.ServiceAccount
		tracked time.Time
		mounted bool
		want    plan.Plan
	}{
		"never used":                      {secret(), auto, day(2020, 1, 1), false, invalidate},
		"used a year ago":                 {secret(labelled(used, "2025-02-28")), auto, day(2020, 1, 1), false, invalidate},
		"used on a day a year ago today":  {secret(labelled(used, "2025-03-01")), auto, day(2020, 1, 1), false, look(noon.Add(24 * time.Hour))},
		"used lately":                     {secret(labelled(used, "2026-02-01")), auto, day(2020, 1, 1), false, look(day(2027, 2, 2))},
		"used nobody knows when":          {secret(labelled(used, "lately")), auto, day(2020, 1, 1), false, plan.Plan{}},
		"mounted":                         {secret(), auto, day(2020, 1, 1), true, look(noon.Add(24 * time.Hour))},
		"not tracked for long":            {secret(), auto, day(2026, 1, 1), false, look(day(2027, 1, 1))},
		"young":                           {secret(func(s *corev1.Secret) { s.CreationTimestamp = metav1.NewTime(noon.Add(-time.Hour)) }), auto, day(2020, 1, 1), false, look(noon.Add(year - time.Hour + time.Second))},
		"made by a user":                  {secret(), account("1"), day(2020, 1, 1), false, plan.Plan{}},
		"of nobody":                       {secret(), nil, day(2020, 1, 1), false, plan.Plan{}},
		"of somebody before":              {secret(ofUID("0")), auto, day(2020, 1, 1), false, plan.Plan{}},
		"going":                           {secret(func(s *corev1.Secret) { s.DeletionTimestamp = new(metav1.NewTime(noon)) }), auto, day(2020, 1, 1), false, plan.Plan{}},
		"invalid for a year":              {secret(labelled(invalid, "2025-02-28")), auto, day(2020, 1, 1), false, remove},
		"invalid for a year, mounted":     {secret(labelled(invalid, "2025-02-28")), auto, day(2020, 1, 1), true, look(noon.Add(24 * time.Hour))},
		"invalid for less":                {secret(labelled(invalid, "2025-06-01")), auto, day(2020, 1, 1), false, look(day(2026, 6, 2))},
		"invalid, used since":             {secret(labelled(invalid, "2025-02-01"), labelled(used, "2025-06-01")), auto, day(2020, 1, 1), false, look(day(2026, 6, 2))},
		"invalid since nobody knows when": {secret(labelled(invalid, "once")), auto, day(2020, 1, 1), false, invalidate},
	} {
		t.Run(name, func(t *testing.T) {
			l := Legacy{Secret: test.secret, Owner: test.owner, TrackedSince: test.tracked, Mounted: test.mounted}
			if diff := cmp.Diff(test.want, Retire(l, noon)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// TestATokenIsLookedAtWhenItIsRipe has time pass until the look that was put off, over and over.
func TestATokenIsLookedAtWhenItIsRipe(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		date := func(name string) string {
			return noon.AddDate(0, 0, -rapid.IntRange(0, 900).Draw(t, name)).Format(dateFormat)
		}
		s := secret(func(s *corev1.Secret) {
			s.CreationTimestamp = metav1.NewTime(noon.Add(-time.Duration(rapid.IntRange(0, 900*86400).Draw(t, "age")) * time.Second))
		})
		if rapid.Bool().Draw(t, "used") {
			labelled(lastUsedLabel, date("last used"))(s)
		}
		if rapid.Bool().Draw(t, "invalid") {
			labelled(invalidSinceLabel, date("invalid since"))(s)
		}
		l := Legacy{Secret: s, Owner: account("1", "t"), TrackedSince: noon.AddDate(0, 0, -rapid.IntRange(0, 900).Draw(t, "tracked"))}
		next, ok := NextLook(l, noon)
		if !ok || next.At.Before(noon.Add(interval)) {
			t.Fatalf("looked at %+v, %t", next, ok)
		}
		if !Ripe(l, next.At) || len(Retire(l, next.At).Writes) != 1 {
			t.Errorf("the look at %s is for nothing", next.At)
		}
		if before := next.At.Add(-time.Nanosecond); before.After(noon.Add(interval)) && Ripe(l, before) {
			t.Errorf("it was ripe before %s", next.At)
		}
	})
}
