package definitions

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	apiregistrationv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"
)

// service is the APIService of a version of example.com.
func service(version, managed string, priority int32) *apiregistrationv1.APIService {
	return &apiregistrationv1.APIService{
		ObjectMeta: metav1.ObjectMeta{Name: version + ".example.com", Labels: map[string]string{managedLabel: managed}},
		Spec: apiregistrationv1.APIServiceSpec{
			Group: "example.com", Version: version, GroupPriorityMinimum: priority, VersionPriority: versionPriority,
		},
	}
}

func TestVersionsThatAreServedAreRegistered(t *testing.T) {
	d := deleted()
	d.Spec.Versions = append(d.Spec.Versions, apiextensionsv1.CustomResourceDefinitionVersion{Name: "v3"})
	for claim, c := range map[string]struct {
		group Group
		want  []string
	}{
		"those that are missing are made": {
			group: Group{Definitions: []*definition{d}}, want: []string{"create v1.example.com", "create v2.example.com"},
		},
		"those that are there stay": {
			group: Group{Definitions: []*definition{d}, Services: []*apiregistrationv1.APIService{
				service("v1", always, groupPriority), service("v2", always, groupPriority),
			}},
		},
		"those that were altered are mended, and those of nobody go": {
			group: Group{Definitions: []*definition{d}, Services: []*apiregistrationv1.APIService{
				service("v1", always, 7), service("v2", always, groupPriority), service("v3", always, groupPriority),
			}},
			want: []string{"update v1.example.com", "delete v3.example.com"},
		},
		"those of others stay as they are": {
			group: Group{Definitions: []*definition{d}, Services: []*apiregistrationv1.APIService{
				service("v1", "onstart", 7), service("v2", "", 7), service("v3", "onstart", 7),
			}},
		},
	} {
		t.Run(claim, func(t *testing.T) {
			c.group.Name = "example.com"
			var got []string
			for _, w := range Register(c.group).Writes {
				got = append(got, string(w.Verb)+" "+w.Name)
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}
