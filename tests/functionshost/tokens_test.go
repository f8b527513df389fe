package functionshost_test

import (
	"testing"

	authenticationv1 "k8s.io/api/authentication/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/zeroplane/zeroplane/tests/functionshost"
	"github.com/zeroplane/zeroplane/tests/issuer"
)

// TestEveryInstanceAcceptsAnIssuersTokenAndAsksForItsKeysOnce has an instance be started for each request. One that is
// asked by nobody with such a token asks nobody.
func TestEveryInstanceAcceptsAnIssuersTokenAndAsksForItsKeysOnce(t *testing.T) {
	key, err := issuer.NewRSA("k1")
	if err != nil {
		t.Fatal(err)
	}
	i := issuer.Start(key)
	t.Cleanup(i.Close)
	h := start(t, functionshost.Options{Kill: true, Environment: []string{"ZEROPLANE_AUTHENTICATION_CONFIG=" + i.Configuration()}})
	config, err := clientcmd.BuildConfigFromFlags("", h.Kubeconfig)
	if err != nil {
		t.Fatal(err)
	}
	user := rest.AnonymousClientConfig(config)
	if user.BearerToken, err = i.Token(key, "jane", "viewers"); err != nil {
		t.Fatal(err)
	}
	client, err := kubernetes.NewForConfig(user)
	if err != nil {
		t.Fatal(err)
	}
	asked := func(want int) {
		t.Helper()
		if d, k := i.Asked(issuer.DiscoveryPath), i.Asked(issuer.KeysPath); d != want || k != want {
			t.Errorf("the issuer was asked %d and %d times, want %d", d, k, want)
		}
	}
	asked(0)
	for n := range 2 {
		scaleToZero(t, h)
		if _, err := h.Client.CoreV1().Nodes().List(t.Context(), metav1.ListOptions{}); err != nil {
			t.Fatal(err)
		}
		asked(n)
		scaleToZero(t, h)
		review, err := client.AuthenticationV1().SelfSubjectReviews().Create(t.Context(), &authenticationv1.SelfSubjectReview{}, metav1.CreateOptions{})
		if err != nil || review.Status.UserInfo.Username != "issuer:jane" {
			t.Fatalf("%+v, %v", review, err)
		}
		asked(n + 1)
	}
}
