package localhost

import (
	"encoding/json"
	"errors"
	"net/http"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/endpoints/handlers/responsewriters"

	"github.com/zeroplane/zeroplane/adapters/apiserver"
	"github.com/zeroplane/zeroplane/functions/placement"
)

const (
	// WhatIfPath is where a cluster answers a placement.Question, which is posted, with a placement.Answer.
	WhatIfPath = "/what-if"
	// maxQuestionBytes bounds a question: pods that are alike are sent once.
	maxQuestionBytes = 16 << 20
)

// answerWhatIf serves WhatIfPath.
func (a *awake) answerWhatIf(w http.ResponseWriter, req *http.Request) {
	answer, err := a.whatIf(w, req)
	if err != nil {
		responsewriters.ErrorNegotiated(err, apiserver.Codecs, schema.GroupVersion{}, w, req)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(answer) // whoever hung up does not read it
}

func (a *awake) whatIf(w http.ResponseWriter, req *http.Request) (placement.Answer, error) {
	var q placement.Question
	if req.Method != http.MethodPost {
		return placement.Answer{}, apierrors.NewMethodNotSupported(corev1.Resource("pods"), req.Method)
	}
	dec := json.NewDecoder(http.MaxBytesReader(w, req.Body, maxQuestionBytes))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&q); err != nil {
		if tooLarge := (*http.MaxBytesError)(nil); errors.As(err, &tooLarge) {
			return placement.Answer{}, apierrors.NewRequestEntityTooLargeError(err.Error())
		}
		return placement.Answer{}, apierrors.NewBadRequest("the body is no question: " + err.Error())
	}
	answer, err := placement.Ask(req.Context(), a.functions, a.profiles, q)
	switch {
	case errors.Is(err, placement.ErrInvalid):
		return answer, apierrors.NewBadRequest(err.Error())
	case errors.Is(err, placement.ErrNoNode):
		notFound := apierrors.NewNotFound(corev1.Resource("nodes"), "")
		notFound.ErrStatus.Message = err.Error()
		return answer, notFound
	}
	return answer, err
}
