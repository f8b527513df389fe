// Package infra checks what is deployed without a cloud: the function app's files in functions, the templates and the
// scripts in infra, and that all of them agree on names.
//
// No provider, compiler or cloud is asked. Terraform is parsed by HashiCorp's own parser and held against the azurerm
// provider's arguments (testdata/azurerm.json, from version 4.55.0); the SAM template against CloudFormation's
// properties (testdata/cloudformation.json, from the specification of November 2026) and those that the SAM guide
// gives; Bicep by a parser of the part of the language that is used here, since its compiler cannot be had. The bodies
// of Bicep and azapi resources are held against each other, not against Azure's schemas.
//
// A check is a function from a tree of files to findings. Each is run on the repository, where it must find nothing, and
// on copies with one mistake, which it must find.
package infra
