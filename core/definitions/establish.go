package definitions

import (
	"crypto/x509"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
)

// establish has the kind be served once its names are accepted (sync). It stays established whatever comes.
func (d draft) establish() {
	if !d.holds(apiextensionsv1.NamesAccepted) || d.holds(apiextensionsv1.Established) {
		return
	}
	if !d.trusts() {
		d.set(condition{
			Type: apiextensionsv1.Established, Status: apiextensionsv1.ConditionFalse, Reason: "InvalidCABundle",
			Message: "The conversion webhook CABundle is invalid",
		})
		return
	}
	d.set(condition{
		Type: apiextensionsv1.Established, Status: apiextensionsv1.ConditionTrue, Reason: "InitialNamesAccepted",
		Message: "the initial names have been accepted",
	})
}

// trusts reports whether the certificates by which a conversion webhook is known can be read, if there are some
// (ValidateCABundle of k8s.io/apiserver/pkg/util/webhook/validation.go).
func (d draft) trusts() bool {
	c := d.Spec.Conversion
	if c == nil || c.Webhook == nil || c.Webhook.ClientConfig == nil || len(c.Webhook.ClientConfig.CABundle) == 0 {
		return true
	}
	return x509.NewCertPool().AppendCertsFromPEM(c.Webhook.ClientConfig.CABundle)
}
