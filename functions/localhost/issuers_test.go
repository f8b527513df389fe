package localhost

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	cloudevents "github.com/cloudevents/sdk-go/v2"
	"github.com/google/go-cmp/cmp"
	authenticationv1 "k8s.io/api/authentication/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"sigs.k8s.io/yaml"

	"github.com/zeroplane/zeroplane/adapters/apiserver"
	"github.com/zeroplane/zeroplane/adapters/cluster"
	"github.com/zeroplane/zeroplane/adapters/oidc"
	memorytable "github.com/zeroplane/zeroplane/adapters/table/memory"
	"github.com/zeroplane/zeroplane/events"
	"github.com/zeroplane/zeroplane/events/foreign"
	"github.com/zeroplane/zeroplane/tests/issuer"
)

// eventGrid is Event Grid's application in the public cloud.
const eventGrid = "4962773b-9cdb-44cf-a8bf-237846a00ab7"

// page returns the YAML of docs/entra.md that has a text, with its names filled in as for an issuer.
func page(t *testing.T, i *issuer.Issuer, text string) string {
	t.Helper()
	all, err := os.ReadFile("../../docs/entra.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, block := range strings.Split(string(all), "```yaml\n")[1:] {
		block, _, _ = strings.Cut(block, "```")
		if !strings.Contains(block, text) {
			continue
		}
		block = strings.ReplaceAll(block, "    url: https://login.microsoftonline.com/TENANT/v2.0\n", fmt.Sprintf("    url: %s\n    certificateAuthority: %q\n", i.URL, i.CA()))
		block = strings.ReplaceAll(block, "OBJECT-ID-OF-THE-GROUP", "viewers")
		return strings.ReplaceAll(strings.ReplaceAll(block, "TENANT", "tenant"), "APP", "app")
	}
	t.Fatalf("docs/entra.md has no YAML with %q", text)
	return ""
}

// trusting is a host that accepts the tokens of an issuer.
type trusting struct {
	*outside
	*issuer.Issuer
	key   *issuer.Key
	clock *issuer.Clock
}

// newTrusting opens a host with a configuration, by default that of docs/entra.md, and gives the rights of that page.
func newTrusting(t *testing.T, more string) *trusting {
	t.Helper()
	key, err := issuer.NewRSA("k1")
	if err != nil {
		t.Fatal(err)
	}
	tr := &trusting{Issuer: issuer.Start(key), key: key, clock: issuer.NewClock(time.Now())}
	t.Cleanup(tr.Issuer.Close)
	config, err := oidc.Load([]byte(page(t, tr.Issuer, "kind: AuthenticationConfiguration")+more), apiserver.IsIssuer)
	if err != nil {
		t.Fatal(err)
	}
	store := memorytable.New()
	h := openBehind(t, Options{
		Store: Store{Store: store, Close: func() error { return nil }, Shared: true}, Front: Front{Address: "app.example.com"},
		MaxAwake: 3, Authentication: config,
	})
	h.issuers = oidc.New(config, tr.clock.Now) // before a cluster is awake
	tr.outside = outsideOf(t, store, h)
	tr.grant(t, tr.admin)
	return tr
}

func openBehind(t *testing.T, o Options) *Host {
	t.Helper()
	t.Setenv(SealKeyEnv, "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=")
	h, err := OpenBehind(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := h.Close(); err != nil {
			t.Error(err)
		}
	})
	return h
}

// grant gives the rights of docs/entra.md.
func (tr *trusting) grant(t *testing.T, c *kubernetes.Clientset) {
	t.Helper()
	for _, text := range []string{"entra-viewers", "name: event-grid"} {
		for document := range strings.SplitSeq(page(t, tr.Issuer, text), "---\n") {
			var err error
			if strings.Contains(document, "kind: ClusterRole\n") {
				var role rbacv1.ClusterRole
				if err = yaml.UnmarshalStrict([]byte(document), &role); err == nil {
					_, err = c.RbacV1().ClusterRoles().Create(t.Context(), &role, metav1.CreateOptions{})
				}
			} else {
				var binding rbacv1.ClusterRoleBinding
				if err = yaml.UnmarshalStrict([]byte(document), &binding); err == nil {
					_, err = c.RbacV1().ClusterRoleBindings().Create(t.Context(), &binding, metav1.CreateOptions{})
				}
			}
			if err != nil {
				t.Fatalf("%v:\n%s", err, document)
			}
		}
	}
}

// person has the claims of a token of somebody's, as Entra's have them.
func (tr *trusting) person(groups ...string) issuer.Claims {
	now := time.Now()
	c := issuer.Claims{
		"iss": tr.URL, "aud": "app", "iat": now.Unix(), "nbf": now.Unix(), "exp": now.Add(time.Hour).Unix(), "ver": "2.0", "tid": "tenant",
		"oid": "0001", "sub": "pairwise", "azp": "kubelogin", "idtyp": "user", "scp": "user_impersonation",
	}
	if len(groups) > 0 {
		c["groups"] = groups
	}
	return c
}

// sender has those of Event Grid's token.
func (tr *trusting) sender() issuer.Claims {
	return tr.person().With(issuer.Claims{
		"oid": "0002", "sub": "0002", "azp": eventGrid, "idtyp": "app", "scp": nil, "roles": []string{"AzureEventGridSecureWebhookSubscriber"},
	})
}

func (tr *trusting) token(t *testing.T, c issuer.Claims) string {
	t.Helper()
	token, err := tr.key.Sign(c)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// ask sends a request with a token, empty for none, and returns the answer.
func (tr *trusting) ask(t *testing.T, method, path, token, body string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, tr.server.URL+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	return exchange(t, req)
}

// expect sends a request and checks the answer's code.
func (tr *trusting) expect(t *testing.T, code int, method, path, token string) {
	t.Helper()
	if got, answer := tr.ask(t, method, path, token, ""); got != code {
		t.Errorf("%s %s: %d, want %d: %.400s", method, path, got, code, answer)
	}
}

const (
	pods        = "/api/v1/namespaces/default/pods"
	selfReviews = "/apis/authentication.k8s.io/v1/selfsubjectreviews"
	whoAmI      = `{"apiVersion":"authentication.k8s.io/v1","kind":"SelfSubjectReview"}`
)

func TestUsersOfAnIssuerAreWhoTheConfigurationSays(t *testing.T) {
	tr := newTrusting(t, "")
	for name, tt := range map[string]struct {
		claims issuer.Claims
		want   authenticationv1.UserInfo
	}{
		"a person in groups": {tr.person("viewers", "others"), authenticationv1.UserInfo{
			Username: "entra:0001", UID: "0001", Groups: []string{"entra:viewers", "entra:others", "system:authenticated"},
		}},
		"a person in none": {tr.person(), authenticationv1.UserInfo{
			Username: "entra:0001", UID: "0001", Groups: []string{"system:authenticated"},
		}},
		"Event Grid": {tr.sender(), authenticationv1.UserInfo{
			Username: "entra-app:" + eventGrid, UID: "0002", Groups: []string{"entra-role:AzureEventGridSecureWebhookSubscriber", "system:authenticated"},
		}},
		"a person with Event Grid as the client": {tr.person().With(issuer.Claims{"azp": eventGrid}), authenticationv1.UserInfo{
			Username: "entra:0001", UID: "0001", Groups: []string{"system:authenticated"},
		}},
	} {
		t.Run(name, func(t *testing.T) {
			token := tr.token(t, tt.claims)
			code, answer := tr.ask(t, http.MethodPost, selfReviews, token, whoAmI)
			var self authenticationv1.SelfSubjectReview
			if err := json.Unmarshal([]byte(answer), &self); err != nil || code != http.StatusCreated {
				t.Fatalf("%d %s: %v", code, answer, err)
			}
			if diff := cmp.Diff(tt.want, self.Status.UserInfo); diff != "" {
				t.Errorf("the SelfSubjectReview's user (-want +got):\n%s", diff)
			}
			review, err := tr.admin.AuthenticationV1().TokenReviews().Create(t.Context(), &authenticationv1.TokenReview{Spec: authenticationv1.TokenReviewSpec{Token: token}}, metav1.CreateOptions{})
			if err != nil || !review.Status.Authenticated {
				t.Fatalf("%+v, %v", review, err)
			}
			if diff := cmp.Diff(tt.want, review.Status.User); diff != "" {
				t.Errorf("the TokenReview's user (-want +got):\n%s", diff)
			}
		})
	}
	wrong := tr.token(t, tr.person().With(issuer.Claims{"aud": "other"}))
	review, err := tr.admin.AuthenticationV1().TokenReviews().Create(t.Context(), &authenticationv1.TokenReview{Spec: authenticationv1.TokenReviewSpec{Token: wrong}}, metav1.CreateOptions{})
	if err != nil || review.Status.Authenticated || !strings.Contains(review.Status.Error, "expected audience") {
		t.Errorf("of another audience's token: %+v, %v", review, err)
	}
}

// TestRefusedTokensGet401AndChangeNothing compares every row of the store before and after.
func TestRefusedTokensGet401AndChangeNothing(t *testing.T) {
	tr := newTrusting(t, "")
	binding := &rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: "everyone"}, RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "cluster-admin"},
		Subjects: []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: rbacv1.UserKind, Name: "entra:0001"}, {APIGroup: rbacv1.GroupName, Kind: rbacv1.GroupKind, Name: "system:unauthenticated"}},
	}
	if _, err := tr.admin.RbacV1().ClusterRoleBindings().Create(t.Context(), binding, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	stranger, err := issuer.NewRSA("k1")
	if err != nil {
		t.Fatal(err)
	}
	forged, err := stranger.Sign(tr.person())
	if err != nil {
		t.Fatal(err)
	}
	unsigned, err := issuer.Unsigned(map[string]any{"alg": "none"}, tr.person())
	if err != nil {
		t.Fatal(err)
	}
	symmetric, err := tr.key.SignAs(map[string]any{"alg": "HS256", "kid": "k1"}, tr.person())
	if err != nil {
		t.Fatal(err)
	}
	with := func(name string, v any) string { return tr.token(t, tr.person().With(issuer.Claims{name: v})) }
	now := time.Now()
	push := encoded(t, pushed(1, now).Event())
	space := `{"apiVersion":"v1","kind":"Namespace","metadata":{"name":"new"}}`
	for name, token := range map[string]string{
		"another audience":            with("aud", "other"),
		"another issuer":              with("iss", "https://login.example.com/tenant/v2.0"),
		"a ServiceAccount's issuer":   with("iss", "https://kubernetes.default.svc.cluster.local"),
		"expired":                     with("exp", now.Add(-time.Minute).Unix()),
		"not yet":                     with("nbf", now.Add(10*time.Minute).Unix()),
		"signed by somebody":          forged,
		"not signed":                  unsigned + ".",
		"signed by the public key":    symmetric,
		"no user":                     with("oid", nil),
		"no tenant":                   with("tid", nil),
		"another tenant":              with("tid", "other"),
		"groups that are not a list":  with("groups", "g"),
		"an app without a name":       tr.token(t, tr.sender().With(issuer.Claims{"azp": nil})),
		"cut off":                     strings.TrimSuffix(tr.token(t, tr.person()), "A")[:400],
		"another's, in a long header": strings.Repeat("a.", 5000),
	} {
		t.Run(name, func(t *testing.T) {
			before := tr.rows(t)
			for _, tt := range []struct{ path, body string }{{"/api/v1/namespaces", space}, {"/events", push}} {
				code, answer := tr.ask(t, http.MethodPost, tt.path, token, tt.body)
				if code != http.StatusUnauthorized || !strings.Contains(answer, `"kind":"Status"`) {
					t.Errorf("%s: %d %.300s", tt.path, code, answer)
				}
			}
			if diff := cmp.Diff(before, tr.rows(t)); diff != "" {
				t.Errorf("rows (-before +after):\n%s", diff)
			}
		})
	}
	// Else the rows would have stayed as they are for another reason.
	if code, answer := tr.ask(t, http.MethodPost, "/api/v1/namespaces", tr.token(t, tr.person()), space); code != http.StatusCreated {
		t.Errorf("a good one: %d %s", code, answer)
	}
}

func TestGroupsOfAnIssuerMayWhatRBACSays(t *testing.T) {
	tr := newTrusting(t, "")
	viewer, other := tr.token(t, tr.person("viewers")), tr.token(t, tr.person("others").With(issuer.Claims{"oid": "0003"}))
	tr.expect(t, http.StatusOK, http.MethodGet, pods, viewer)
	tr.expect(t, http.StatusForbidden, http.MethodDelete, pods, viewer)
	tr.expect(t, http.StatusForbidden, http.MethodGet, pods, other)
	tr.expect(t, http.StatusForbidden, http.MethodGet, pods, tr.token(t, tr.person("system:masters")))
	binding := &rbacv1.RoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: "one"}, RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "view"},
		Subjects: []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: rbacv1.UserKind, Name: "entra:0003"}},
	}
	if _, err := tr.admin.RbacV1().RoleBindings("default").Create(t.Context(), binding, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	tr.expect(t, http.StatusOK, http.MethodGet, pods, other)
	tr.expect(t, http.StatusForbidden, http.MethodGet, "/api/v1/namespaces/kube-system/pods", other)
}

// TestEventGridsTokenMayPostTheTypesOfItsRole sends events in binary mode.
func TestEventGridsTokenMayPostTheTypesOfItsRole(t *testing.T) {
	tr := newTrusting(t, "")
	now := time.Now()
	send := func(token string, e cloudevents.Event) int {
		t.Helper()
		code, answer := tr.send(t, delivery{"application/json", strings.NewReader(string(e.Data())), map[string]string{
			"Authorization": "Bearer " + token, "ce-specversion": "1.0", "ce-id": e.ID(), "ce-source": e.Source(), "ce-type": e.Type(),
			"ce-time": e.Time().Format(time.RFC3339), "ce-subject": e.Subject(),
		}})
		if code >= http.StatusInternalServerError {
			t.Errorf("%d %s", code, answer)
		}
		return code
	}
	push := pushed(1, now).Event()
	before := tr.rows(t)
	for name, tt := range map[string]struct {
		claims issuer.Claims
		event  cloudevents.Event
		code   int
	}{
		"a type that it may":            {tr.sender(), push, http.StatusAccepted},
		"a type that it may not":        {tr.sender(), events.Timer{Cluster: cluster.Default, Time: now}.Event(), http.StatusForbidden},
		"another app":                   {tr.sender().With(issuer.Claims{"azp": "other"}), push, http.StatusForbidden},
		"a person, with it as a client": {tr.person().With(issuer.Claims{"azp": eventGrid}), push, http.StatusForbidden},
		"another audience's":            {tr.sender().With(issuer.Claims{"aud": "other"}), push, http.StatusUnauthorized},
		"an old one, of an hour ago":    {tr.sender().With(issuer.Claims{"exp": now.Add(-time.Hour).Unix()}), push, http.StatusUnauthorized},
		"of the role, another issuer's": {tr.sender().With(issuer.Claims{"iss": "https://sts.windows.net/tenant/"}), push, http.StatusUnauthorized},
	} {
		t.Run(name, func(t *testing.T) {
			if code := send(tr.token(t, tt.claims), tt.event); code != tt.code {
				t.Errorf("%d, want %d", code, tt.code)
			}
		})
	}
	if diff := cmp.Diff(before, tr.rows(t)); diff != "" {
		t.Errorf("rows, though no workload follows an image (-before +after):\n%s", diff)
	}
	if push.Type() != foreign.ImagePushedType {
		t.Errorf("the push is a %s", push.Type())
	}
}

func TestClustersShareAnIssuerAndKeepTheirServiceAccountsAndRights(t *testing.T) {
	tr := newTrusting(t, "")
	ctx := t.Context()
	if _, _, err := tr.maker.Create(ctx, "dev", time.Now()); err != nil {
		t.Fatal(err)
	}
	accounts := tr.admin.CoreV1().ServiceAccounts("default")
	made, err := accounts.CreateToken(ctx, "default", &authenticationv1.TokenRequest{}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	viewer := tr.token(t, tr.person("viewers"))
	const dev = "/clusters/dev"
	for _, tt := range []struct {
		what, path, token string
		code              int
	}{
		{"a ServiceAccount in its cluster", "/apis", made.Status.Token, http.StatusOK},
		{"a ServiceAccount in another cluster", dev + "/apis", made.Status.Token, http.StatusUnauthorized},
		{"a user in a cluster", pods, viewer, http.StatusOK},
		{"a user in another cluster", dev + "/apis", viewer, http.StatusOK},
		{"a user in another cluster, who may nothing there", dev + pods, viewer, http.StatusForbidden},
	} {
		if code, answer := tr.ask(t, http.MethodGet, tt.path, tt.token, ""); code != tt.code {
			t.Errorf("%s: %d, want %d: %s", tt.what, code, tt.code, answer)
		}
	}
	if d, k := tr.Asked(issuer.DiscoveryPath), tr.Asked(issuer.KeysPath); d != 1 || k != 1 {
		t.Errorf("for two clusters the issuer was asked %d and %d times", d, k)
	}
}

func TestAnIssuerMayBeDownAndChangeItsKeys(t *testing.T) {
	tr := newTrusting(t, "")
	viewer := tr.token(t, tr.person("viewers"))
	tr.SetDown(true)
	tr.expect(t, http.StatusUnauthorized, http.MethodGet, pods, viewer)
	tr.expect(t, http.StatusOK, http.MethodGet, pods, tr.outside.token) // others are let in
	tr.SetDown(false)
	tr.clock.Pass(10 * time.Second)
	tr.expect(t, http.StatusOK, http.MethodGet, pods, viewer)

	next, err := issuer.NewEC("k2")
	if err != nil {
		t.Fatal(err)
	}
	tr.Rotate(next)
	tr.clock.Pass(10 * time.Second)
	tr.key = next
	fresh := tr.token(t, tr.person("viewers"))
	eventually(t, "a token of the new key is accepted", func() (bool, error) {
		code, _ := tr.ask(t, http.MethodGet, pods, fresh, "")
		return code == http.StatusOK, nil
	})
}

func TestWhoIsAnonymousIsAsTheConfigurationSays(t *testing.T) {
	for name, tt := range map[string]struct {
		more             string
		livez, version   int
		events, wrongOne int
	}{
		"says nothing": {"", http.StatusOK, http.StatusOK, http.StatusForbidden, http.StatusUnauthorized},
		"some paths": {
			"anonymous: {enabled: true, conditions: [{path: /livez}]}\n",
			http.StatusOK, http.StatusUnauthorized, http.StatusUnauthorized, http.StatusUnauthorized,
		},
		"nobody": {"anonymous: {enabled: false}\n", http.StatusUnauthorized, http.StatusUnauthorized, http.StatusUnauthorized, http.StatusUnauthorized},
	} {
		t.Run(name, func(t *testing.T) {
			tr := newTrusting(t, tt.more)
			if _, _, err := tr.maker.Create(t.Context(), "dev", time.Now()); err != nil {
				t.Fatal(err)
			}
			for _, prefix := range []string{"", "/clusters/dev"} {
				tr.expect(t, tt.livez, http.MethodGet, prefix+"/livez", "")
				tr.expect(t, tt.version, http.MethodGet, prefix+"/version", "")
				tr.expect(t, tt.events, http.MethodPost, prefix+"/events", "")
				tr.expect(t, tt.wrongOne, http.MethodGet, prefix+"/livez", tr.token(t, tr.person().With(issuer.Claims{"aud": "other"})))
			}
			tr.expect(t, http.StatusOK, http.MethodGet, "/version", tr.token(t, tr.person()))
			tr.expect(t, http.StatusOK, http.MethodGet, "/version", tr.outside.token)
		})
	}
}

// TestWhereTheProcessIsFrozenNoIssuerIsAskedBetweenTwoCalls has a client leave while the issuer is asked.
func TestWhereTheProcessIsFrozenNoIssuerIsAskedBetweenTwoCalls(t *testing.T) {
	tr := newTrusting(t, "")
	begun, release := tr.Hold(issuer.KeysPath)
	defer release()
	ctx, leave := context.WithCancel(t.Context())
	answered := make(chan struct{})
	token := tr.token(t, tr.person("viewers"))
	go func() {
		defer close(answered)
		req := httptest.NewRequestWithContext(ctx, http.MethodGet, "https://app.example.com"+pods, nil)
		req.Header.Set("Authorization", "Bearer "+token)
		tr.route(httptest.NewRecorder(), req)
	}()
	<-begun
	leave()
	<-answered
	late, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if err := tr.Rest(late); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("while the issuer is asked: %v", err)
	}
	release()
	if err := tr.Rest(t.Context()); err != nil {
		t.Error(err)
	}
}
