package certificates_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	cryptorand "crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"testing"
	"testing/synctest"
	"time"
	"unsafe"

	"github.com/go-logr/logr"
	"github.com/google/go-cmp/cmp"
	authorizationv1 "k8s.io/api/authorization/v1"
	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	"k8s.io/apiserver/pkg/server/dynamiccertificates"
	"k8s.io/client-go/informers"
	certificatesinformers "k8s.io/client-go/informers/certificates/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"
	"k8s.io/client-go/util/workqueue"
	"k8s.io/klog/v2"
	upstream "k8s.io/kubernetes/pkg/controller/certificates"
	"k8s.io/kubernetes/pkg/controller/certificates/approver"
	"k8s.io/kubernetes/pkg/controller/certificates/cleaner"
	"k8s.io/kubernetes/pkg/controller/certificates/signer"

	"github.com/zeroplane/zeroplane/adapters/cluster"
	"github.com/zeroplane/zeroplane/core/certificates"
	"github.com/zeroplane/zeroplane/core/plan"
)

// draws is how many requests each test makes.
const draws = 400

// lifetime is kube-controller-manager's default.
const lifetime = 365 * 24 * time.Hour

func TestMain(m *testing.M) {
	klog.SetLogger(logr.Discard())
	utilruntime.ErrorHandlers = nil
	os.Exit(m.Run())
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func pick[T any](rng *rand.Rand, values ...T) T { return values[rng.IntN(len(values))] }

// some is a few of some values, each once.
func some[T any](rng *rand.Rand, values ...T) []T {
	var out []T
	for _, i := range rng.Perm(len(values))[:rng.IntN(len(values)+1)] {
		out = append(out, values[i])
	}
	return out
}

// world makes requests.
type world struct {
	rng  *rand.Rand
	key  *ecdsa.PrivateKey
	keys cluster.Keys
}

func newWorld(seed uint64) *world {
	w := &world{rng: rand.New(rand.NewPCG(seed, 0)), key: must(ecdsa.GenerateKey(elliptic.P256(), cryptorand.Reader))}
	ca := must(ecdsa.GenerateKey(elliptic.P256(), cryptorand.Reader))
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "ca"}, IsCA: true, BasicConstraintsValid: true,
		// In a bubble it is the year 2000. Some certificates outlive the CA.
		NotBefore: time.Date(1999, 1, 1, 0, 0, 0, 0, time.UTC), NotAfter: time.Date(2000, 1, 20, 0, 0, 0, 0, time.UTC),
	}
	w.keys.CACertificate = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: must(x509.CreateCertificate(cryptorand.Reader, template, template, ca.Public(), ca))})
	w.keys.CAKey = pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: must(x509.MarshalECPrivateKey(ca))})
	return w
}

// request draws one. Half of them are what the approver takes, or nearly.
func (w *world) request() *certificatesv1.CertificateSigningRequest {
	rng := w.rng
	odd := func() bool { return rng.IntN(8) == 0 }
	if rng.IntN(2) == 0 {
		odd = func() bool { return rng.IntN(2) == 0 }
	}
	template := &x509.CertificateRequest{Subject: pkix.Name{CommonName: "system:node:a", Organization: []string{"system:nodes"}}}
	csr := &certificatesv1.CertificateSigningRequest{
		ObjectMeta: metav1.ObjectMeta{Name: "csr", UID: "uid", CreationTimestamp: w.earlier()},
		Spec: certificatesv1.CertificateSigningRequestSpec{
			SignerName: signers[0], Usages: pick(rng, clientUsages, []certificatesv1.KeyUsage{certificatesv1.UsageKeyEncipherment, certificatesv1.UsageDigitalSignature, certificatesv1.UsageClientAuth}),
			Username: pick(rng, "system:node:a", "system:bootstrap:abcdef"), Groups: []string{"system:bootstrappers"},
			Extra: map[string]certificatesv1.ExtraValue{"example.com/why": {"so"}},
		},
	}
	if odd() {
		csr.Spec.SignerName = pick(rng, signers...)
	}
	if odd() {
		template.Subject = pkix.Name{CommonName: pick(rng, "system:node:b", "jane"), Organization: pick(rng, []string{"system:nodes"}, []string{"developers"}, nil)}
	}
	if odd() {
		template.DNSNames = some(rng, "a", "b.example.com")
		template.IPAddresses = some(rng, net.IP{10, 0, 0, 1}, net.IP{10, 0, 0, 2})
		template.EmailAddresses = some(rng, "a@example.com")
	}
	if odd() {
		csr.Spec.Usages = pick(rng, servingUsages, some(rng, certificatesv1.UsageClientAuth, certificatesv1.UsageServerAuth,
			certificatesv1.UsageKeyEncipherment, certificatesv1.UsageSMIME, certificatesv1.UsageEmailProtection, certificatesv1.UsageCertSign, "unheard of"))
	}
	if rng.IntN(2) == 0 {
		csr.Spec.ExpirationSeconds = new(pick[int32](rng, 600, 601, 3600, 8*3600-1, 8*3600, 8*3600+1, 10*24*3600, 30*24*3600, 400*24*3600, 1))
	}
	block := &pem.Block{Type: "CERTIFICATE REQUEST", Bytes: must(x509.CreateCertificateRequest(cryptorand.Reader, template, w.key))}
	if rng.IntN(16) == 0 {
		block.Type = "CERTIFICATE"
	}
	csr.Spec.Request = pem.EncodeToMemory(block)
	return csr
}

var (
	clientUsages  = []certificatesv1.KeyUsage{certificatesv1.UsageDigitalSignature, certificatesv1.UsageClientAuth}
	servingUsages = []certificatesv1.KeyUsage{certificatesv1.UsageDigitalSignature, certificatesv1.UsageServerAuth}
)

// earlier is one of a few times at which a request's time may just have begun or ended, or none. Upstream looks once an hour and
// takes a moment for over when it has passed: the moment itself is not drawn.
func (w *world) earlier() metav1.Time {
	since := pick(w.rng, 0, time.Hour, 24*time.Hour) + pick(w.rng, -time.Second, time.Second)
	return metav1.NewTime(time.Now().Add(-since))
}

var signers = []string{
	certificatesv1.KubeAPIServerClientKubeletSignerName, certificatesv1.KubeAPIServerClientSignerName, certificatesv1.KubeletServingSignerName,
	"kubernetes.io/legacy-unknown", "example.com/signer",
}

// decided gives a request some conditions, and a certificate.
func (w *world) decided(csr *certificatesv1.CertificateSigningRequest) {
	for _, t := range some(w.rng, certificatesv1.CertificateApproved, certificatesv1.CertificateApproved, certificatesv1.CertificateDenied, certificatesv1.CertificateFailed, "Noticed") {
		c := certificatesv1.CertificateSigningRequestCondition{Type: t, Status: pick(w.rng, corev1.ConditionTrue, corev1.ConditionTrue, corev1.ConditionFalse, "")}
		if w.rng.IntN(4) > 0 {
			c.LastUpdateTime = w.earlier()
		}
		csr.Status.Conditions = append(csr.Status.Conditions, c)
	}
	if w.rng.IntN(2) == 0 {
		template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: w.earlier().Time}
		if w.rng.IntN(2) == 0 {
			template.NotAfter = time.Now().Add(time.Hour)
		}
		der := must(x509.CreateCertificate(cryptorand.Reader, template, template, w.key.Public(), w.key))
		csr.Status.Certificate = pick(w.rng, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), []byte("unreadable"))
	}
}

// run lets a controller see one request and rest, and returns what has become of the request, nil if it is gone, and what was asked.
func run(t *testing.T, csr *certificatesv1.CertificateSigningRequest, allowed map[string]bool,
	start func(context.Context, kubernetes.Interface, certificatesinformers.CertificateSigningRequestInformer)) (*certificatesv1.CertificateSigningRequest, []authorizationv1.SubjectAccessReviewSpec) {
	t.Helper()
	client := fake.NewClientset(csr.DeepCopy())
	var asked []authorizationv1.SubjectAccessReviewSpec
	client.PrependReactor("create", "subjectaccessreviews", func(a clienttesting.Action) (bool, runtime.Object, error) {
		review := a.(clienttesting.CreateAction).GetObject().(*authorizationv1.SubjectAccessReview).DeepCopy()
		asked = append(asked, review.Spec)
		review.Status.Allowed = allowed[review.Spec.ResourceAttributes.Subresource]
		return true, review, nil
	})
	ctx, cancel := context.WithCancel(t.Context())
	factory := informers.NewSharedInformerFactory(client, 0)
	informer := factory.Certificates().V1().CertificateSigningRequests()
	informer.Informer()
	factory.Start(ctx.Done())
	factory.WaitForCacheSync(ctx.Done())
	start(ctx, client, informer)
	synctest.Wait()
	cancel()
	factory.Shutdown()
	synctest.Wait()
	all := must(client.CertificatesV1().CertificateSigningRequests().List(context.Background(), metav1.ListOptions{}))
	if len(all.Items) == 0 {
		return nil, asked
	}
	return &all.Items[0], asked
}

// applied is what becomes of a request by a plan.
func applied(csr *certificatesv1.CertificateSigningRequest, p plan.Plan) *certificatesv1.CertificateSigningRequest {
	switch {
	case len(p.Writes) == 0:
		return csr
	case p.Writes[0].Verb == plan.Delete:
		return nil
	default:
		return p.Writes[0].Object.(*certificatesv1.CertificateSigningRequest)
	}
}

func TestRequestsAreApprovedAsUpstreamDoes(t *testing.T) {
	w, approved := newWorld(1), 0
	for range draws {
		synctest.Test(t, func(t *testing.T) {
			csr := w.request()
			if w.rng.IntN(4) == 0 {
				w.decided(csr)
			}
			allowed := map[string]bool{"nodeclient": w.rng.IntN(2) == 0, "selfnodeclient": w.rng.IntN(2) == 0}
			want, asked := run(t, csr, allowed, func(ctx context.Context, client kubernetes.Interface, informer certificatesinformers.CertificateSigningRequestInformer) {
				go approver.NewCSRApprovingController(ctx, client, informer).Run(ctx, 1)
			})
			got := csr
			var asks []string
			for _, as := range certificates.Recognize(csr) {
				asks = append(asks, as.Subresource)
				if allowed[as.Subresource] {
					got = applied(csr, certificates.Approve(csr, as))
					approved++
					break
				}
			}
			compare(t, csr, want, got)
			var upstreamAsks []string
			for _, q := range asked[:min(len(asks), len(asked))] { // it asks again and again
				upstreamAsks = append(upstreamAsks, q.ResourceAttributes.Subresource)
			}
			if diff := cmp.Diff(upstreamAsks, asks); diff != "" {
				t.Fatalf("asked (-upstream +core):\n%s", diff)
			}
		})
	}
	if approved < draws/20 {
		t.Errorf("only %d of %d were approved", approved, draws)
	}
}

func compare(t *testing.T, csr, want, got *certificatesv1.CertificateSigningRequest) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Fatalf("what becomes of %+v (-upstream +core):\n%s", csr, diff)
	}
}

// private is a field that upstream does not show.
func private[T any](of reflect.Value, name string) T {
	field := of.Elem().FieldByName(name)
	return *(*T)(unsafe.Pointer(field.UnsafeAddr()))
}

// sign runs the controller inside of a signer of upstream, without the one that watches the files of the CA.
func sign(ctx context.Context, s *signer.CSRSigningController) {
	files := private[dynamiccertificates.ControllerRunner](reflect.ValueOf(s), "dynamicCertReloader")
	private[workqueue.TypedRateLimitingInterface[string]](reflect.ValueOf(files), "queue").ShutDown()
	go private[*upstream.CertificateController](reflect.ValueOf(s), "certificateController").Run(ctx, 1)
}

func TestCertificatesAreSignedAsUpstreamDoes(t *testing.T) {
	w := newWorld(2)
	dir := t.TempDir()
	certificateFile, keyFile := filepath.Join(dir, "ca.crt"), filepath.Join(dir, "ca.key")
	for file, content := range map[string][]byte{certificateFile: w.keys.CACertificate, keyFile: w.keys.CAKey} {
		if err := os.WriteFile(file, content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	authority := must(w.keys.Authority())
	signed, failed := 0, 0
	for range draws {
		synctest.Test(t, func(t *testing.T) {
			csr := w.request()
			if w.rng.IntN(4) > 0 {
				csr.Status.Conditions = []certificatesv1.CertificateSigningRequestCondition{{Type: certificatesv1.CertificateApproved, Status: corev1.ConditionTrue}}
			} else {
				w.decided(csr)
			}
			want, _ := run(t, csr, nil, func(ctx context.Context, client kubernetes.Interface, informer certificatesinformers.CertificateSigningRequestInformer) {
				for _, name := range signers[:4] {
					sign(ctx, must(signer.NewCSRSigningController(ctx, name, name, client, informer, certificateFile, keyFile, lifetime)))
				}
			})
			order, p := certificates.Sign(csr, time.Now())
			got := applied(csr, p)
			if order != nil {
				if certificate, err := authority.Sign(*order, time.Now()); err == nil {
					got = applied(csr, certificates.Issue(csr, certificate))
				}
			}
			if len(csr.Status.Certificate) == 0 && len(got.Status.Certificate) > 0 {
				signed++
				sameCertificate(t, want.Status.Certificate, got.Status.Certificate)
				want.Status.Certificate = got.Status.Certificate
			}
			if len(p.Writes) > 0 {
				failed++
			}
			compare(t, csr, want, got)
		})
	}
	if signed < draws/5 || failed < draws/10 {
		t.Errorf("of %d only %d were signed and %d failed", draws, signed, failed)
	}
}

// sameCertificate compares all that is in two certificates but for what is random in them.
func sameCertificate(t *testing.T, want, got []byte) {
	t.Helper()
	type fields x509.Certificate // without its Equal, which compares Raw alone
	parse := func(certificate []byte) fields {
		block, _ := pem.Decode(certificate)
		if block == nil {
			t.Fatalf("%q is no certificate", certificate)
		}
		parsed := must(x509.ParseCertificate(block.Bytes))
		parsed.Raw, parsed.RawTBSCertificate, parsed.Signature, parsed.SerialNumber = nil, nil, nil, nil
		return fields(*parsed)
	}
	if diff := cmp.Diff(parse(want), parse(got)); diff != "" {
		t.Fatalf("the certificate (-upstream +core):\n%s", diff)
	}
}

func TestRequestsAreClearedAwayAsUpstreamDoes(t *testing.T) {
	w, removed := newWorld(3), 0
	for range draws {
		synctest.Test(t, func(t *testing.T) {
			time.Sleep(48 * time.Hour)
			csr := w.request()
			w.decided(csr)
			want, _ := run(t, csr, nil, func(ctx context.Context, client kubernetes.Interface, informer certificatesinformers.CertificateSigningRequestInformer) {
				c := cleaner.NewCSRCleanerController(client.CertificatesV1().CertificateSigningRequests(), informer)
				go c.Run(ctx, 1)
			})
			got := applied(csr, certificates.Clean(csr, time.Now()))
			if got == nil {
				removed++
			}
			compare(t, csr, want, got)
		})
	}
	if removed < draws/5 || removed > draws*4/5 {
		t.Errorf("%d of %d were removed", removed, draws)
	}
}
