# The root module takes the baked AMI. Put the Batch resources that use it beside this file and read
# var.gpu_ami_id (in ec2_configuration.image_id_override of the compute environment).
