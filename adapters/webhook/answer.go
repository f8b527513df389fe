package webhook

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// retryAfter is what a sender is told that came too often or too early, in seconds.
const retryAfter = 5

// at says which of several events an error is about.
func at(err error, i, n int) error {
	var known apierrors.APIStatus
	if n == 1 || !errors.As(err, &known) {
		return err
	}
	s := known.Status()
	s.Message = fmt.Sprintf("event %d of %d: %s", i, n, s.Message)
	return &apierrors.StatusError{ErrStatus: s}
}

func tooLarge() error {
	return apierrors.NewRequestEntityTooLargeError(fmt.Sprintf("at most %d bytes and %d events are taken at once", MaxBytes, MaxEvents))
}

func unavailable() error {
	err := apierrors.NewServiceUnavailable("the event cannot be taken now, send it again later")
	err.ErrStatus.Details = &metav1.StatusDetails{RetryAfterSeconds: retryAfter}
	return err
}

func status(code int32, reason metav1.StatusReason, message string) error {
	return &apierrors.StatusError{ErrStatus: metav1.Status{Status: metav1.StatusFailure, Code: code, Reason: reason, Message: message}}
}

// fail answers with a metav1.Status.
func fail(w http.ResponseWriter, err error) {
	s := metav1.Status{Status: metav1.StatusFailure, Code: http.StatusInternalServerError, Message: err.Error()}
	var known apierrors.APIStatus
	if errors.As(err, &known) {
		s = known.Status()
	}
	s.Kind, s.APIVersion = "Status", "v1"
	if s.Details != nil && s.Details.RetryAfterSeconds > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(int(s.Details.RetryAfterSeconds)))
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(int(s.Code))
	_ = json.NewEncoder(w).Encode(s) // whoever hung up does not read it
}
